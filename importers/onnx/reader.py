"""ONNX file → TracedModel: the graph is interpreted by torch calls and recorded as an ATen graph with a free batch."""

import math
from pathlib import Path

import onnx

from banscan.errors import BanscanError, ModelError
from banscan.importers.digest import sha256
from banscan.importers.model import Input, Source, TracedModel
from banscan.importers.normal.input import flat_input, image_input
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.importers.onnx import file, outputs, quantised
from banscan.importers.onnx.interpreter import Interpreter
from banscan.importers.onnx.outputs import FLOATS

NAME = "ONNX"


def read(path: Path, size: tuple[int, int] | None, logits: str | None) -> TracedModel:
    """Reads an ONNX classifier; `size` is for images whose size it leaves free, `logits` names one of several outputs.

    Raises:
        ModelError: the file is not ONNX, is damaged, or holds no image classifier that can be traced.
    """
    model = file.inline(path, file.read(path))
    try:
        eight_bit = quantised.dequantise(model)
    except BanscanError as error:
        raise ModelError(f"{path}: {error}") from error
    name, spec, batch = _input(path, model)
    spec = spec.sized(size)
    output = outputs.find(path, model, logits)
    try:
        module = Interpreter(model, name, output.tensor, batch, flat=spec.flat)
    except BanscanError as error:
        raise ModelError(f"{path}: {error}") from error
    source = Source(
        path=path,
        format=NAME,
        producer=f"{model.producer_name} {model.producer_version.partition(' ')[0]}".strip() or "unknown",
        opset=max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0),
        sha256=sha256(path),
        batch=batch,
        precision="8 bits" if eight_bit else _precision(model),
        output=output.name,
        labels=output.labels,
        weights={attribute: name for name, attribute in module.attributes.items()},
    )
    del model  # as large as the weights that the module holds now
    return normalise(export(path, module, spec.example()), spec, source)


def _input(path: Path, model: onnx.ModelProto) -> tuple[str, Input, int | None]:
    """The name of the image input, what it takes, and the batch size that the file fixes, or None."""
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise ModelError(f"{path}: {len(inputs)} inputs ({names}); expected an image classifier with one image input")
    sizes = [d.dim_value or None for d in inputs[0].type.tensor_type.shape.dim]
    kind = inputs[0].type.tensor_type.elem_type
    if len(sizes) == 2 and sizes[1] is not None and kind in FLOATS:
        return inputs[0].name, flat_input(path, inputs[0].name, sizes[1]), sizes[0]
    if len(sizes) != 4 or kind not in (*FLOATS, onnx.TensorProto.UINT8):
        shown = "x".join(str(s or "?") for s in sizes)
        raise ModelError(
            f"{path}: the input {inputs[0].name!r} is {onnx.TensorProto.DataType.Name(kind).lower()} {shown}; "
            "expected one batch of images [N, channels, height, width] or [N, height, width, channels]"
        )
    batch, *image = sizes
    return inputs[0].name, image_input(path, inputs[0].name, image), batch


def _precision(model: onnx.ModelProto) -> str:
    """The type of most of the weights; of bfloat16 some are enough, because onnxruntime cannot compute with them."""
    counts: dict[int, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type in FLOATS:
            counts[tensor.data_type] = counts.get(tensor.data_type, 0) + math.prod(tensor.dims)
    if counts.get(onnx.TensorProto.BFLOAT16, 0) > 1:
        return "bfloat16"
    return "float16" if max(counts, key=counts.__getitem__, default=0) == onnx.TensorProto.FLOAT16 else "float32"
