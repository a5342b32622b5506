"""An ONNX file is untrusted: what is looked at before anything in it is used."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from banscan.errors import ModelError
from banscan.importers import utf8
from banscan.importers.sandbox import confinement

# beyond this no image classifier has weights, but a hostile shape may
LARGEST_TENSOR = 1 << 33
MOST_NODES = 1_000_000


def read(path: Path, *, outside: bool = True) -> onnx.ModelProto:
    """Parses an ONNX file and checks it; data outside the file is loaded from its own folder only, and not at all without `outside`.

    Raises:
        ModelError: the file is not ONNX, is truncated, or points outside its folder.
    """
    _check_weights(path, _parse(path))
    # the checker reads the file itself, because bytes made of a large model would not fit protobuf's 2 GB; nothing is held meanwhile
    try:
        with utf8.path_of(path) as readable:
            onnx.checker.check_model(str(readable))
            model = _parse(path)
            if outside:
                onnx.load_external_data_for_model(model, str(readable.parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{path}: not a valid ONNX model ({reason}); export it again with your framework's ONNX exporter") from error
    return model


def _check_weights(path: Path, model: onnx.ModelProto) -> None:
    outside: set[Path] = set()
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError(f"{path}: not an ONNX model, or an empty one; expected a graph with nodes")
    for tensor in model.graph.initializer:
        count = 4
        for size in tensor.dims:
            count *= max(size, 0)
        if count > LARGEST_TENSOR:
            raise ModelError(f"{path}: the weight {tensor.name!r} claims {count // 4:,} values; the file is damaged or hostile")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            outside.add(_check_external(path, tensor))
    confinement.grant(sum(file.stat().st_size for file in outside))


def _parse(path: Path) -> onnx.ModelProto:
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
    target = folder / location
    resolved = target.resolve()
    if not location or not resolved.is_relative_to(folder):
        raise ModelError(f"{path}: the weight {tensor.name!r} points outside the model's folder ({location!r}); refused")
    if not resolved.is_file():
        raise ModelError(f"{path}: the weights file {location!r} is missing; expected it beside the model")
    return resolved
