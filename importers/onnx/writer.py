"""The original ONNX file with other values in its weights, and nothing else changed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers.model import Source
from banscan.importers.onnx import file, quantised


def write(source: Source, weights: dict[str, Tensor], path: Path) -> None:
    """Writes the file with other values in these of its weights, given by the file's own names, to `path`.

    Nodes, names, metadata, inputs, outputs and types stay; external data stays external, in files beside `path`. Weights of 8 bits are
    written as float32.

    Raises:
        ModelError: a weight that the file does not hold as one.
    """
    eight_bit = source.precision == "8 bits"
    proto = file.read(source.path, outside=eight_bit)
    if eight_bit:
        quantised.dequantise(proto)
    tensors = dict(_tensors(proto.graph))
    _move_outside(list(tensors.values()), source.path, path)
    for name, value in weights.items():
        if name not in tensors:
            raise ModelError(f"{source.path}: the weight {name!r} is computed or lies in a function; cannot write it back")
        _replace(tensors[name], value.numpy(), path)
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
