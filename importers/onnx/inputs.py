"""Which input of an ONNX graph takes the images, in which layout, and what the others get."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers.model import Input
from banscan.importers.normal.input import flat_input, image_input
from banscan.importers.onnx.outputs import FLOATS

INTEGERS = frozenset({TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64})
# through these, pixels keep their places
KEEPING = frozenset(
    [
        "Add",
        "BatchNormalization",
        "Cast",
        "CastLike",
        "Clip",
        "Div",
        "Identity",
        "Mul",
        "Pad",
        "Pow",
        "Relu",
        "Resize",
        "Sub",
        "Upsample",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
)
# the first layer tells how many channels there are
LAYERS = frozenset({"Conv", "FusedConv", "QLinearConv", "ConvInteger"})
MATRICES = frozenset({"Gemm", "MatMul", "FusedGemm", "FusedMatMul"})
# axes that a flag has at most, and types that have a zero
MOST_AXES, NUMBERS = 8, frozenset(onnx.helper.get_all_tensor_dtypes()) - {TensorProto.UNDEFINED, TensorProto.STRING}


@dataclass(frozen=True)
class Images:
    """The input that takes the images.

    Attributes:
        name: the file's own.
        spec: what banscan feeds.
        batch: the batch size that the file fixes, or None.
        whole: whether the file takes integers.
        form: how the file wants them: "map", "row", "plane" (without a channel axis) or "single" (one image, without a batch axis).
        alpha: where the file has an axis of four channels, of which the last is not read.
        others: values for the inputs that no image goes into.
    """

    name: str
    spec: Input
    batch: int | None
    whole: bool = False
    form: str = "map"
    alpha: int | None = None
    others: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def single(self) -> bool:
        return self.form == "single"

    def placed(self, images: Tensor, alpha: Tensor | None = None) -> Tensor:
        """Images in the layout of `spec` as the graph takes them, [N, ...]; `alpha` for a fourth channel."""
        if self.form == "row":
            return images.flatten(1)
        if self.form == "plane":
            return images.squeeze(1)
        if self.alpha is not None:
            return torch.cat((images, images.narrow(self.alpha, 0, 1) if alpha is None else alpha), self.alpha)
        return images


@dataclass(frozen=True)
class _First:
    """The first layer behind the image: its channels, on which axis of the image they are, and how many axes the image has."""

    channels: int
    axis: int
    rank: int


def find(path: Path, model: onnx.ModelProto, read: set[str]) -> Images:
    """The image input of a graph of which the tensors `read` are needed.

    Raises:
        ModelError: none, several, or one that takes no images.
    """
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    used = [i for i in inputs if i.name in read]
    images = [i for i in used if not _aside(model, i)]
    if len(images) != 1:
        names = ", ".join(i.name for i in (images or used or inputs)) or "none"
        raise ModelError(f"{path}: {len(images)} inputs ({names}); expected an image classifier with one image input")
    entry = images[0]
    others = {i.name: _nothing(i) for i in used if i is not entry}
    kind = entry.type.tensor_type.elem_type
    first = _first_layer(model, entry.name)
    sizes = _sizes(entry, first)
    if (kind not in FLOATS and kind not in INTEGERS) or len(sizes) not in (2, 3, 4):
        shown = "x".join(str(s or "?") for s in sizes)
        raise ModelError(
            f"{path}: the input {entry.name!r} is {_kind(kind)} {shown}; "
            "expected one batch of images [N, channels, height, width] or [N, height, width, channels]"
        )
    return _placed(path, entry.name, sizes, first, kind in INTEGERS, others)


def _placed(path: Path, name: str, sizes: list[int | None], first: _First | None, whole: bool, others: dict[str, np.ndarray]) -> Images:
    if len(sizes) == 2:
        count = sizes[1] or (first.channels if first is not None else None)
        if count is None:
            raise ModelError(f"{path}: the input {name!r} is a row of a free number of values; expected images")
        return Images(name, flat_input(path, name, count), sizes[0], whole, "row", others=others)
    if len(sizes) == 3 and (sizes[0] in (3, 4) or sizes[2] in (3, 4)):
        return Images(name, image_input(path, name, sizes), 1, whole, "single", others=others)
    if len(sizes) == 3:
        return Images(name, image_input(path, name, [1, *sizes[1:]]), sizes[0], whole, "plane", others=others)
    batch, *rest = sizes
    alpha = None
    if first is not None and first.rank == 4 and first.axis in (1, 3) and rest[first.axis - 1] is None:
        rest[first.axis - 1] = first.channels
    for axis in (1, 3):
        if 4 in (rest[0], rest[2]) and rest[axis - 1] == 4 and alpha is None and not {1, 3} & {rest[0], rest[2]}:
            alpha = axis
            rest[axis - 1] = 3
    return Images(name, image_input(path, name, rest), batch, whole, "map", alpha, others)


def _sizes(entry: onnx.ValueInfoProto, first: _First | None) -> list[int | None]:
    """The declared sizes, None for those that are free in whatever way an exporter says so."""
    kind = entry.type.tensor_type
    if not kind.HasField("shape") and first is not None:
        return [None] * first.rank
    return [None if d.dim_value in (0, -1) else d.dim_value for d in kind.shape.dim]


def _kind(kind: int) -> str:
    try:
        return str(TensorProto.DataType.Name(kind)).lower()
    except ValueError:
        return "of no known type"


def _aside(model: onnx.ModelProto, entry: onnx.ValueInfoProto) -> bool:
    """Whether an input says how the network is to be run: a flag, or a rate that only dropout reads."""
    kind = entry.type.tensor_type
    if any(d.dim_value != 1 for d in kind.shape.dim) or len(kind.shape.dim) > MOST_AXES or kind.elem_type not in NUMBERS:
        return False
    if kind.elem_type == TensorProto.BOOL:
        return True
    readers = [(node.op_type, i) for node in model.graph.node for i, name in enumerate(node.input) if name == entry.name]
    return all(op == "Dropout" and i > 0 for op, i in readers)


def _nothing(entry: onnx.ValueInfoProto) -> np.ndarray:
    """No training, nothing dropped."""
    kind = entry.type.tensor_type
    return np.zeros([1] * len(kind.shape.dim), onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


def _first_layer(model: onnx.ModelProto, name: str) -> _First | None:
    """Follows the image to the first layer, through what leaves the pixels where they are."""
    shapes = {t.name: list(t.dims) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
            shapes[node.output[0]] = list(node.attribute[0].t.dims)
    order: list[int] = []  # of the image's axes, where it is transposed
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for given in node.input:
            readers.setdefault(given, []).append(node)
    for _ in range(len(model.graph.node)):
        following = [n for n in readers.get(name, []) if n.op_type in KEEPING | LAYERS | MATRICES | {"Transpose"}]
        if not following or not following[0].output:
            return None
        node = following[0]
        attributes: dict[str, Any] = {a.name: a for a in node.attribute}
        if node.op_type in LAYERS:
            place = 3 if node.op_type == "QLinearConv" else 1
            weight = shapes.get(node.input[place], []) if len(node.input) > place else []
            group = attributes["group"].i if "group" in attributes else 1
            axis = order[1] if len(order) == 4 else 1
            return _First(weight[1] * group, axis, len(weight)) if len(weight) == 4 else None
        if node.op_type in MATRICES:
            return _row(node, attributes, shapes)
        if node.op_type == "Transpose":
            turned: Sequence[int] = attributes["perm"].ints if "perm" in attributes else []
            if sorted(turned) != list(range(len(turned))):  # which no runtime takes
                return None
            order = [order[p] for p in turned] if order and len(order) == len(turned) else list(turned)
        name = node.output[0]
    return None


def _row(node: onnx.NodeProto, attributes: dict[str, Any], shapes: dict[str, list[int]]) -> _First | None:
    weight = shapes.get(node.input[1], []) if len(node.input) > 1 else []
    turned = "transB" in attributes and attributes["transB"].i
    return _First(weight[1 if turned else 0], 1, 2) if len(weight) == 2 else None
