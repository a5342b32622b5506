"""What two readers of one ONNX file would read differently: names that are there twice, values in two fields, a graph in two parts."""

import mmap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx

from banscan.errors import ModelError

# fields of an attribute that hold a value
VALUES = ("f", "i", "s", "t", "g", "sparse_tensor", "tp", "floats", "ints", "strings", "tensors", "graphs", "sparse_tensors", "type_protos")
LISTS = frozenset(VALUES[7:])
# fields of the whole file that stand there once: the version of its form, the graph
SINGLE = {1: "ir_version", 7: "graph"}
# deeper nesting than any exporter writes
DEEPEST = 50


def check(path: Path, model: onnx.ModelProto) -> None:
    """Raises ModelError for a model that has two readings."""
    for name in _repeated(path):
        raise _refusal(path, f"its field {name!r} is there twice")
    for (domain, name, _), count in Counter((f.domain, f.name, getattr(f, "overload", "")) for f in model.functions).items():
        if count > 1:
            raise _refusal(path, f"the function {f'{domain}.{name}'.strip('.')!r} is there twice")
    versions: dict[str, set[int]] = {}
    for entry in model.opset_import:
        versions.setdefault("" if entry.domain == "ai.onnx" else entry.domain, set()).add(entry.version)
    for domain, known in versions.items():
        if len(known) > 1:
            raise _refusal(path, f"the opset {domain or 'ai.onnx'!r} is there in the versions {' and '.join(map(str, sorted(known)))}")
    _check_graph(path, model.graph, frozenset(), 0)
    for function in model.functions:
        _check_made(path, [*function.input, *(o for n in function.node for o in n.output)])
        _check_nodes(path, function.node, frozenset(), 0)


def _refusal(path: Path, what: str) -> ModelError:
    return ModelError(f"{path}: {what}, in two readings; the file is damaged or hostile")


def _check_graph(path: Path, graph: onnx.GraphProto, outer: frozenset[str], depth: int) -> None:
    if depth > DEEPEST:
        raise ModelError(f"{path}: its graphs are nested more than {DEEPEST} deep; the file is damaged or hostile")
    weights = [*(t.name for t in graph.initializer), *(s.values.name for s in graph.sparse_initializer)]
    _check_once(path, "weight", weights)
    _check_once(path, "input", [i.name for i in graph.input])
    _check_once(path, "output", [o.name for o in graph.output])
    own = set(weights) | {i.name for i in graph.input}
    made = [o for n in graph.node for o in n.output if o]
    _check_made(path, [*own, *made])
    _check_defaults(path, graph)
    for tensor in graph.initializer:
        _check_outside(path, tensor)
    inner = frozenset(own) | frozenset(made)
    if shadowed := sorted(inner & outer):
        raise _refusal(path, f"the tensor {shadowed[0]!r} has the name of another around its branch")
    _check_nodes(path, graph.node, outer | inner, depth)


def _check_nodes(path: Path, nodes: Iterable[onnx.NodeProto], outer: frozenset[str], depth: int) -> None:
    for node in nodes:
        label = f"{node.op_type} {node.name or next(iter(node.output), '')!r}"
        _check_once(path, f"attribute of {label}", [a.name for a in node.attribute])
        for attribute in node.attribute:
            held = [f for f in VALUES if (len(getattr(attribute, f)) if f in LISTS else attribute.HasField(f))]
            if len(held) > 1:
                raise _refusal(path, f"the attribute {attribute.name!r} of {label} has the values {' and '.join(held)}")
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                _check_outside(path, tensor)
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _check_graph(path, inner, outer, depth + 1)


def _check_once(path: Path, what: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise _refusal(path, f"the {what} {name!r} is there twice")


def _check_made(path: Path, names: Sequence[str]) -> None:
    for name, count in Counter(n for n in names if n).items():
        if count > 1:
            raise _refusal(path, f"the tensor {name!r} is made twice")


def _check_defaults(path: Path, graph: onnx.GraphProto) -> None:
    """An input may have a weight of its name as its default, of its type and size."""
    weights = {t.name: t for t in graph.initializer}
    for entry in graph.input:
        kind, weight = entry.type.tensor_type, weights.get(entry.name)
        if weight is None or not entry.type.HasField("tensor_type"):
            continue
        sizes = [d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim]
        fits = not kind.HasField("shape") or (
            len(sizes) == len(weight.dims) and all(s in (None, d) for s, d in zip(sizes, weight.dims, strict=True))
        )
        if not fits or (kind.elem_type and kind.elem_type != weight.data_type):
            raise _refusal(path, f"the input {entry.name!r} has a weight of its name, of another type or size")


def _check_outside(path: Path, tensor: onnx.TensorProto) -> None:
    _check_once(path, f"external_data of the weight {tensor.name!r}:", [e.key for e in tensor.external_data])


def _repeated(path: Path) -> list[str]:
    """The single fields of a file that are there more than once; protobuf puts the parts of such a graph together, others take the last."""
    seen: Counter[int] = Counter()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place, end = 0, len(data)
        while place < end:
            key, place = _number(data, place)
            seen[key >> 3] += 1
            wire = key & 7
            if wire == 0:
                _, place = _number(data, place)
            elif wire == 2:
                size, place = _number(data, place)
                place += size
            elif wire in (1, 5):
                place += 8 if wire == 1 else 4
            else:  # a group, which the file's parser has refused or skipped
                break
    return [name for field, name in SINGLE.items() if seen[field] > 1]


def _number(data: mmap.mmap, place: int) -> tuple[int, int]:
    """A variable-length integer at a place, and the place behind it."""
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, place
