"""TracedModel → file: the original ONNX or TorchScript file with other values in its weights, and nothing else changed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers import untrusted
from banscan.importers.model import TracedModel
from banscan.importers.onnx import quantised
from banscan.importers.pytorch import torchscript


def check_writable(model: TracedModel, *, dequantise: bool) -> None:
    """Raises ModelError for a file whose weights cannot be replaced, before any work is done on them."""
    source = model.source
    if source.format not in ("ONNX", "TorchScript"):
        raise ModelError(f"{source.path}: a {source.format} file cannot be written back; export the model as ONNX and repair that")
    if source.precision == "8 bits" and not dequantise:
        raise ModelError(
            f"{source.path}: its weights have 8 bits, which fine-tuning would leave; with --dequantize a float32 model is written"
        )


def write(model: TracedModel, weights: dict[str, Tensor], path: Path) -> None:
    """Writes the model's own file with these `weights` in it, under their names in the traced graph, to `path`.

    Nodes, names, metadata, inputs, outputs and types stay; external data stays external, in files beside `path`. It is written where it is
    told: `files.whole` has a place until it is complete.

    Raises:
        ModelError: a weight that is not held by the file itself.
        OSError: the file cannot be written.
    """
    source = model.source
    if source.format == "TorchScript":
        torchscript.write_source(source, {source.weights[n]: v.detach() for n, v in weights.items()}, path)
    else:
        _write_onnx(model, {source.weights[n]: v.detach().numpy() for n, v in weights.items()}, path)


def _write_onnx(model: TracedModel, given: dict[str, np.ndarray], path: Path) -> None:
    source = model.source
    eight_bit = source.precision == "8 bits"
    proto = untrusted.read_onnx(source.path, outside=eight_bit)
    if eight_bit:
        quantised.dequantise(proto)
    tensors = dict(_tensors(proto.graph))
    _move_outside(list(tensors.values()), source.path, path)
    for name, value in given.items():
        if name not in tensors:
            raise ModelError(f"{source.path}: the weight {name!r} is computed or lies in a function; cannot write it back")
        _replace(tensors[name], value, path)
    path.write_bytes(proto.SerializeToString())


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """The graph's own weights by name: initializers, and constants written as nodes."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            yield node.output[0], node.attribute[0].t


def _move_outside(tensors: list[TensorProto], source: Path, path: Path) -> None:
    """Copies the files with external data beside the new model and points the tensors there."""
    moved: dict[str, Path] = {}
    for tensor in tensors:
        for entry in tensor.external_data if tensor.data_location == TensorProto.EXTERNAL else ():
            if entry.key == "location":
                if entry.value not in moved:
                    moved[entry.value] = path.with_name(f"{path.name}{f'.{len(moved)}' if moved else ''}.data")
                    shutil.copyfile(source.parent / entry.value, moved[entry.value])
                entry.value = moved[entry.value].name


def _replace(tensor: TensorProto, value: np.ndarray, path: Path) -> None:
    """Puts values into a tensor in its own type, where it lies."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    data = onnx.numpy_helper.from_array(np.ascontiguousarray(value.reshape(tuple(tensor.dims))).astype(dtype), tensor.name)
    if tensor.data_location != TensorProto.EXTERNAL:
        tensor.CopyFrom(data)
        return
    entries = {e.key: e.value for e in tensor.external_data}
    with path.with_name(entries["location"]).open("r+b") as stream:
        stream.seek(int(entries.get("offset", 0)))
        stream.write(data.raw_data)
