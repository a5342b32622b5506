"""A bfloat16 ONNX model with the same values in float32, for onnxruntime, which has no bfloat16 convolutions on a CPU."""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto

from banscan.importers.model import Source
from banscan.importers.onnx import file


def widened(source: Source) -> bytes:
    """The file with every bfloat16 tensor, cast and declaration made float32."""
    model = file.inline(source.path, file.read(source.path))
    widen(model)
    data: bytes = model.SerializeToString()
    return data


def widen(model: onnx.ModelProto) -> None:
    """Makes every bfloat16 tensor, cast and declaration of a model float32, in place."""
    for tensor in _tensors(model.graph):
        if tensor.data_type == TensorProto.BFLOAT16:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def _tensors(graph: onnx.GraphProto) -> Iterable[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR)
