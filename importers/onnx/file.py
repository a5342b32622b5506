"""An ONNX file is untrusted: what is looked at before anything in it is used."""

import heapq
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from banscan.errors import ModelError
from banscan.importers import utf8
from banscan.importers.onnx import readings
from banscan.importers.sandbox import confinement

# beyond this no image classifier has weights, but a hostile shape may
LARGEST_TENSOR = 1 << 33
LARGEST_SPARSE = 1 << 26
MOST_NODES = 1_000_000
# domains whose operators runtimes bring with them
BUILT_IN = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
# where a tensor may hold its values
FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def read(path: Path, *, outside: bool = True) -> onnx.ModelProto:
    """Parses an ONNX file and checks it; data outside the file is loaded from its own folder only, and not at all without `outside`.

    Raises:
        ModelError: the file is not ONNX, is truncated, or points outside its folder.
    """
    model = _parse(path)
    _check_weights(path, model)
    readings.check(path, model)
    try:
        onnx.checker.check_model(_skeleton(model))
        if outside:
            with utf8.path_of(path) as readable:
                onnx.load_external_data_for_model(model, str(readable.parent))
    except (onnx.checker.ValidationError, ValueError, OSError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{path}: not a valid ONNX model ({reason}); export it again with your framework's ONNX exporter") from error
    return model


def _check_weights(path: Path, model: onnx.ModelProto) -> None:
    outside: set[Path] = set()
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError(f"{path}: not an ONNX model, or an empty one; expected a graph with nodes")
    for tensor in tensors(model.graph):
        count = 4
        for size in tensor.dims:
            count *= max(size, 0)
        if count > LARGEST_TENSOR:
            raise ModelError(f"{path}: the weight {tensor.name!r} claims {count // 4:,} values; the file is damaged or hostile")
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if sum(bool(len(getattr(tensor, name))) for name in FIELDS) + external > 1:
            raise ModelError(f"{path}: the weight {tensor.name!r} is there twice, in two readings; the file is damaged or hostile")
        if external:
            outside.add(_check_external(path, tensor))
    for sparse in _sparse(model.graph):
        if math.prod(float(max(size, 0)) for size in sparse.dims) > LARGEST_SPARSE:
            raise ModelError(f"{path}: the sparse weight {sparse.values.name!r} claims more than {LARGEST_SPARSE:,} values; refused")
    confinement.grant(outside=sum(file.stat().st_size for file in outside), nodes=len(model.graph.node))


def beside(path: Path) -> list[Path]:
    """The files that hold weights of a model, in the order of their names.

    Raises:
        ModelError: the file is not ONNX, or points outside its folder.
    """
    model = _parse(path)
    outside = (t for t in tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL)
    return sorted({_check_external(path, tensor) for tensor in outside})


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All constants of a graph, those within its nodes included."""
    yield from graph.initializer
    for sparse in _sparse(graph):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors(inner)


def _sparse(graph: onnx.GraphProto) -> list[onnx.SparseTensorProto]:
    own = [a.sparse_tensor for node in graph.node for a in node.attribute if a.HasField("sparse_tensor")]
    return [*graph.sparse_initializer, *own]


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for ONNX's checker, with weights without values, and without the faults that no runtime minds."""
    bare = onnx.ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.name = model.graph.name or "graph"
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for value in (*graph.input, *graph.output):
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.SetInParent()
    graph.initializer.extend(onnx.TensorProto(name=t.name, data_type=t.data_type, dims=[0]) for t in model.graph.initializer)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    graph.node.extend(ordered(model.graph))
    for tensor in tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))
    return bare


def ordered(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each behind those that it reads; in the file's order where that is one, or where there is none."""
    made = {o: i for i, node in enumerate(graph.node) for o in node.output if o}
    needs = [{made[i] for i in _inputs(node) if i in made} - {n} for n, node in enumerate(graph.node)]
    if all(max(need, default=-1) < n for n, need in enumerate(needs)):
        return list(graph.node)
    readers: dict[int, list[int]] = {}
    for n, need in enumerate(needs):
        for i in need:
            readers.setdefault(i, []).append(n)
    ready = [n for n, need in enumerate(needs) if not need]
    heapq.heapify(ready)
    result = []
    while ready:
        n = heapq.heappop(ready)
        result.append(graph.node[n])
        for reader in readers.get(n, []):
            needs[reader].discard(n)
            if not needs[reader]:
                heapq.heappush(ready, reader)
    return result if len(result) == len(graph.node) else list(graph.node)


def _inputs(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, its branches included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _inputs(inner)
        yield from (o.name for o in attribute.g.output)


def mended(path: Path, model: onnx.ModelProto) -> set[str]:
    """Puts nodes in order and writes sparse weights out, in place; the names of those, which the file does not hold in this form.

    Raises:
        ModelError: a sparse weight whose values lie outside its shape.
    """
    nodes = ordered(model.graph)
    sparse = {}
    for node in nodes:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("sparse_tensor"):
            sparse[node.output[0]] = node.attribute[0].sparse_tensor
    sparse |= {s.values.name: s for s in model.graph.sparse_initializer}
    model.graph.initializer.extend(_dense(path, name, s) for name, s in sparse.items())
    kept = [n for n in nodes if not (n.op_type == "Constant" and n.output[0] in sparse)]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept] if kept != list(model.graph.node) else []
    if copies:
        del model.graph.node[:]
        model.graph.node.extend(copies)
    return set(sparse)


def _dense(path: Path, name: str, sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    try:
        values, places = (onnx.numpy_helper.to_array(t) for t in (sparse.values, sparse.indices))
        result = np.zeros(tuple(sparse.dims), values.dtype)
        if places.ndim == 1:
            result.reshape(-1)[places] = values
        else:
            result[tuple(places.T)] = values
        return onnx.numpy_helper.from_array(result, name)
    except (ValueError, IndexError, TypeError, KeyError, NotImplementedError) as error:
        raise ModelError(f"{path}: the sparse weight {name!r} has values outside its shape, or no numbers; the file is damaged") from error


def _parse(path: Path) -> onnx.ModelProto:
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: not an ONNX model: the file is empty; copy or download it again")
    try:
        return onnx.load(str(path), format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise ModelError(
            f"{path}: not an ONNX model, or a truncated one; expected a file of torch.onnx.export or of another framework's ONNX exporter, "
            "TorchScript, or torch.export"
        ) from error


def inline(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions written out, after a look at how long that makes it.

    Raises:
        ModelError: functions that call themselves, or that call each other so often that the graph would not fit.
    """
    if not model.functions:
        return model
    taken = next((f for f in model.functions if f.domain in BUILT_IN), None)
    if taken is not None:  # its own runtime keeps to its own operator
        raise ModelError(f"{path}: the function {taken.name!r} takes the name of an operator of ONNX or onnxruntime; refused")
    bodies = {(f.domain, f.name): f for f in model.functions}
    lengths: dict[tuple[str, str], int] = {}

    def length(nodes: Sequence[onnx.NodeProto], open_: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in open_:
                raise ModelError(f"{path}: the function {node.op_type!r} calls itself; the file is damaged or hostile")
            if key in bodies and key not in lengths:
                lengths[key] = length(bodies[key].node, open_ | {key})
            total += lengths.get(key, 1)
        return total

    count = length(model.graph.node, frozenset())
    if count > MOST_NODES:
        raise ModelError(f"{path}: its functions write out to {count:,} nodes; the file is damaged or hostile")
    return onnx.inliner.inline_local_functions(model)


def _check_external(path: Path, tensor: onnx.TensorProto) -> Path:
    """The file that holds a tensor's data must lie in the model's folder, links resolved."""
    location = next((e.value for e in tensor.external_data if e.key == "location"), "")
    folder = path.parent.resolve()
    try:
        resolved = (folder / location).resolve()
    except (TypeError, ValueError, OSError, RuntimeError):  # no text, a null byte, a name that no system takes, links in a circle
        resolved = Path(folder.anchor)
    if not location or not resolved.is_relative_to(folder):
        raise ModelError(f"{path}: the weight {tensor.name!r} points outside the model's folder ({location!r}); refused")
    if not resolved.is_file():
        raise ModelError(f"{path}: the weights file {location!r} is missing; expected it beside the model")
    return resolved
