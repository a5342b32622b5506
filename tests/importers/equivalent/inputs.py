"""Forms that differ in front of the stem: types, layouts, sizes and batches that are fixed or free, inputs beside the image."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.importers.equivalent.form import Form, onnx_form, unit
from tests.importers.equivalent.network import CHANNELS, SIZE
from tests.importers.equivalent.surgery import before_head, declare, drop, front, node, put, rename, value

MAP = ("batch", CHANNELS, SIZE, SIZE)
Change = Callable[[onnx.ModelProto], onnx.ModelProto | None]


def raw(pictures: np.ndarray) -> np.ndarray:
    """Pixels from 0 to 255, channels first."""
    return np.ascontiguousarray(pictures.astype(np.float32).transpose(0, 3, 1, 2))


def last(pictures: np.ndarray) -> np.ndarray:
    """Pixels from 0 to 255, channels last."""
    return pictures.astype(np.float32)


def larger(pictures: np.ndarray) -> np.ndarray:
    """Every pixel four times."""
    return unit(pictures.repeat(2, 1).repeat(2, 2))


def sizes(*given: int | str | None) -> Change:
    """The input declared with these sizes."""
    return lambda m: declare(m, "input", ("image", TensorProto.FLOAT, given))


def batch(count: int, *nodes: onnx.NodeProto, **constants: object) -> Change:
    """A batch that the file fixes, with nodes between features and head, or in front of the features, that name it."""

    def change(m: onnx.ModelProto) -> None:
        declare(m, "input", ("image", TensorProto.FLOAT, (count, *MAP[1:])))
        declare(m, "output", ("logits", TensorProto.FLOAT, (count, 7)))
        put(m, **constants)
        if nodes:
            before_head(m, *nodes)

    return change


def cast(kind: int, *, nhwc: bool = False, scale: bool = True) -> Change:
    """Pixels of another type, cast and divided in the graph."""

    def change(m: onnx.ModelProto) -> None:
        put(m, k=np.float32(255))
        nodes = [node("Cast", ["image"], ["f"], to=TensorProto.FLOAT)]
        nodes += [node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2])] if nhwc else []
        nodes += [node("Div", [nodes[-1].output[0], "k"], ["image_"])] if scale else []
        nodes[-1].output[0] = "image_"
        front(m, *nodes, sizes=("batch", SIZE, SIZE, CHANNELS) if nhwc else MAP, kind=kind)

    return change


def dequantised(*, zero: int, kind: int = TensorProto.UINT8) -> Change:
    """Integers that stand for pixels by a scale and a zero point."""

    def change(m: onnx.ModelProto) -> None:
        put(m, step=np.float32(1 / 255), zp=np.array(zero, helper.tensor_dtype_to_np_dtype(kind)))
        front(m, node("DequantizeLinear", ["image", "step", "zp"], ["image_"]), sizes=MAP, kind=kind)

    return change


def divided(m: onnx.ModelProto) -> None:
    """(2 p + 1) // 2 of whole numbers is p."""
    put(m, two=np.array(2, np.int32), more=np.array(1, np.int32), k=np.float32(255))
    front(
        m,
        node("Mul", ["image", "two"], ["doubled"]),
        node("Add", ["doubled", "more"], ["odd"]),
        node("Div", ["odd", "two"], ["whole"]),
        node("Cast", ["whole"], ["f"], to=TensorProto.FLOAT),
        node("Div", ["f", "k"], ["image_"]),
        sizes=MAP,
        kind=TensorProto.INT32,
    )


def flipped(start: int, end: int) -> Change:
    def change(m: onnx.ModelProto) -> None:
        put(m, st=[start], en=np.array([end], np.int64), ax=[1], sp=[-1])
        front(m, node("Slice", ["image", "st", "en", "ax", "sp"], ["image_"]), sizes=MAP)

    return change


def before(*nodes: onnx.NodeProto, opset: int | None = None, given: tuple[object, ...] = MAP, **constants: object) -> Change:
    def change(m: onnx.ModelProto) -> None:
        put(m, **constants)
        front(m, *nodes, sizes=given)  # type: ignore[arg-type]
        if opset is not None:
            m.opset_import[0].version = opset

    return change


def beside(*inputs: tuple[str, int, list[int]], nodes: tuple[onnx.NodeProto, ...] = ()) -> Change:
    """Inputs beside the image."""

    def change(m: onnx.ModelProto) -> None:
        m.graph.input.extend(helper.make_tensor_value_info(*i) for i in inputs)
        if nodes:
            before_head(m, *nodes)

    return change


def as_inputs(*, image_last: bool) -> Change:
    """IR 3: weights are inputs as well."""

    def change(m: onnx.ModelProto) -> None:
        m.ir_version, m.opset_import[0].version = 3, 8
        weights = [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, list(t.dims)) for t in m.graph.initializer]
        entries = [*weights, m.graph.input[0]] if image_last else [m.graph.input[0], *weights]
        copies = [onnx.ValueInfoProto.FromString(e.SerializeToString()) for e in entries]
        del m.graph.input[:]
        m.graph.input.extend(copies)

    return change


def grey(*, plane: bool) -> Change:
    """One channel, whose weight is the sum of the three; the pictures are the same in all of them."""

    def change(m: onnx.ModelProto) -> None:
        put(m, **{"stem.weight": drop(m, "stem.weight").sum(1, keepdims=True), "one": np.array([1], np.int64)})
        if plane:
            front(m, node("Unsqueeze", ["image", "one"], ["image_"]), sizes=("batch", SIZE, SIZE))
        else:
            declare(m, "input", ("image", TensorProto.FLOAT, ("batch", 1, SIZE, SIZE)))

    return change


def no_shape(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.ClearField("shape")


def named(m: onnx.ModelProto) -> None:
    declare(m, "input", ("pixel_values", TensorProto.FLOAT, ("batch_size", "num_channels", "height", "width")))
    rename(m, "image", "pixel_values")


def bgr_weights(m: onnx.ModelProto) -> None:
    put(m, **{"stem.weight": value(m, "stem.weight")[:, ::-1]})


def bgr(pictures: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(unit(pictures)[:, ::-1])


SMALLEST = -(2**63)
TURN = node("Transpose", ["image"], ["image_"], perm=[0, 3, 1, 2])
LARGE = ("batch", CHANNELS, 2 * SIZE, 2 * SIZE)
RATIO = node("Dropout", ["features", "keep_prob"], ["d"])
MEAN, STD = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
REVERSED = node("Gather", ["image", "g"], ["image_"], axis=1)

FORMS: dict[str, Form] = {
    **{f"batch {b}": onnx_form(batch(b)) for b in (-1, 0, 1, 2, 5, 64, 100)},
    "batch 100, reshaped": onnx_form(batch(100, node("Reshape", ["pooled", "to"], ["r"]), to=[100, 12])),
    "batch 1, reshaped": onnx_form(batch(1, node("Reshape", ["pooled", "to"], ["r"]), to=[1, -1])),
    "batch 1, 1 first": onnx_form(batch(1, node("Reshape", ["pooled", "to"], ["r"]), to=[1, 12])),
    "batch 7, in the middle": onnx_form(
        batch(
            7,
            node("Reshape", ["map", "to"], ["r"]),
            node("ReduceMean", ["r"], ["m"], axes=[1], keepdims=0),
            node("Reshape", ["m", "rows"], ["s"]),
            to=[84, 64],
            rows=[7, 12],
        )
    ),
    "batch 1, squeezed": onnx_form(batch(1, node("Squeeze", ["pooled"], ["s"]), node("Unsqueeze", ["s", "zero"], ["u"]), zero=[0])),
    "batch 1, squeezed by axis": onnx_form(
        batch(
            1, node("Squeeze", ["features", "zero"], ["s"]), node("Relu", ["s"], ["v"]), node("Unsqueeze", ["v", "zero"], ["u"]), zero=[0]
        )
    ),
    "batch 1, first picked": onnx_form(
        batch(1, node("Gather", ["features", "place"], ["s"], axis=0), node("Reshape", ["s", "to"], ["u"]), place=np.int64(0), to=[1, -1])
    ),
    "batch 3, spread": onnx_form(
        batch(3, node("Expand", ["one", "to"], ["e"]), node("Mul", ["features", "e"], ["u"]), one=np.ones((1, 1), np.float32), to=[3, 12])
    ),
    "free batch before a reshape of one": onnx_form(
        lambda m: (put(m, to=[1, -1]), before_head(m, node("Reshape", ["pooled", "to"], ["r"])))[1]
    ),
    "all sizes named": onnx_form(named),
    "free size": onnx_form(sizes("batch", CHANNELS, None, None)),
    "free channels": onnx_form(sizes(None, None, None, None)),
    "sizes -1": onnx_form(sizes(-1, CHANNELS, -1, -1)),
    "sizes 0": onnx_form(sizes(0, CHANNELS, 0, 0)),
    "no shape": onnx_form(no_shape),
    "free NHWC": onnx_form(before(TURN, given=(None, None, None, None)), images=lambda p: last(p) / 255),
    "NHWC": onnx_form(before(TURN, given=("batch", SIZE, SIZE, CHANNELS)), images=lambda p: last(p) / 255),
    "uint8 NHWC": onnx_form(cast(TensorProto.UINT8, nhwc=True), images=last),
    "uint8": onnx_form(cast(TensorProto.UINT8), images=raw),
    "int32": onnx_form(cast(TensorProto.INT32), images=raw),
    "int64 NHWC": onnx_form(cast(TensorProto.INT64, nhwc=True), images=last),
    "int16": onnx_form(cast(TensorProto.INT16), images=raw),
    "float16": onnx_form(cast(TensorProto.FLOAT16, scale=False), exact=2e-3),
    "double": onnx_form(cast(TensorProto.DOUBLE, scale=False)),
    "uint8, cast by likeness": onnx_form(
        lambda m: (
            put(m, k=np.float32(255)),
            front(m, node("CastLike", ["image", "k"], ["f"]), node("Div", ["f", "k"], ["image_"]), sizes=MAP, kind=TensorProto.UINT8),
        )[1],
        images=raw,
    ),
    "uint8, dequantised": onnx_form(dequantised(zero=0), images=raw),
    "int8, dequantised": onnx_form(dequantised(zero=-128, kind=TensorProto.INT8), images=lambda p: raw(p) - 128),
    "uint16": onnx_form(cast(TensorProto.UINT16), images=raw),
    "uint8, doubled and divided": onnx_form(divided, images=raw),
    "flipped": onnx_form(flipped(-1, SMALLEST + 1), images=bgr),
    "flipped to the smallest": onnx_form(flipped(-1, SMALLEST), images=bgr),
    "flipped to -4": onnx_form(flipped(2, -4), images=bgr),
    "flipped to -2147483647": onnx_form(flipped(-1, -2147483647), images=bgr),
    "gathered": onnx_form(before(REVERSED, g=[2, 1, 0]), images=bgr),
    "split": onnx_form(
        before(node("Split", ["image"], ["c0", "c1", "c2"], axis=1), node("Concat", ["c2", "c1", "c0"], ["image_"], axis=1)), images=bgr
    ),
    "BGR weights": onnx_form(bgr_weights, images=bgr),
    "a flag": onnx_form(beside(("training", TensorProto.BOOL, []))),
    "a flag that dropout reads": onnx_form(
        lambda m: (
            put(m, half=np.float32(0.5)),
            beside(("training", TensorProto.BOOL, []), nodes=(node("Dropout", ["features", "half", "training"], ["d"]),))(m),
        )[1]
    ),
    "a flag that chooses": onnx_form(
        beside(
            ("keras_learning_phase", TensorProto.BOOL, []),
            nodes=(node("Neg", ["features"], ["n"]), node("Where", ["keras_learning_phase", "n", "features"], ["d"])),
        )
    ),
    "a rate": onnx_form(beside(("keep_prob", TensorProto.FLOAT, []), nodes=(RATIO,))),
    "inputs without use": onnx_form(beside(("info", TensorProto.FLOAT, [1, 2]), ("scale", TensorProto.FLOAT, []))),
    "weights as inputs": onnx_form(as_inputs(image_last=False)),
    "weights as inputs, image last": onnx_form(as_inputs(image_last=True)),
    "resized along axes": onnx_form(
        before(node("Resize", ["image", "", "", "to"], ["image_"], mode="linear", axes=[2, 3]), opset=18, given=LARGE, to=[SIZE, SIZE]),
        images=larger,
    ),
    "resized by the nearest": onnx_form(
        before(node("Resize", ["image", "", "by"], ["image_"], mode="nearest"), given=LARGE, by=np.array([1, 1, 0.5, 0.5], np.float32)),
        images=larger,
    ),
    "resized NHWC": onnx_form(
        before(
            node("Resize", ["image", "", "by"], ["r"], mode="linear"),
            node("Transpose", ["r"], ["image_"], perm=[0, 3, 1, 2]),
            given=("batch", 2 * SIZE, 2 * SIZE, CHANNELS),
            by=np.array([1, 0.5, 0.5, 1], np.float32),
        ),
        images=lambda p: np.ascontiguousarray(larger(p).transpose(0, 2, 3, 1)),
    ),
    "cropped": onnx_form(
        before(node("Slice", ["image", "low", "high", "axes"], ["image_"]), given=LARGE, low=[8, 8], high=[24, 24], axes=[2, 3]),
        images=lambda p: np.pad(unit(p), ((0, 0), (0, 0), (8, 8), (8, 8)), constant_values=0.7),
    ),
    "normalised inside": onnx_form(
        before(node("Mul", ["image", "std"], ["scaled"]), node("Add", ["scaled", "mean"], ["image_"]), std=STD, mean=MEAN),
        images=lambda p: (unit(p) - MEAN) / STD,
    ),
    "half inside": onnx_form(before(node("Add", ["image", "half"], ["image_"]), half=np.float32(0.5)), images=lambda p: unit(p) - 0.5),
    "raw inside": onnx_form(before(node("Mul", ["image", "k"], ["image_"]), k=np.float32(1 / 255)), images=raw),
    "four channels": onnx_form(
        before(node("Slice", ["image", "low", "high", "axis"], ["image_"]), given=("batch", 4, SIZE, SIZE), low=[0], high=[3], axis=[1])
    ),
    "grey": onnx_form(grey(plane=False), images=lambda p: unit(p)[:, :1], same=True),
    "grey without channels": onnx_form(grey(plane=True), images=lambda p: unit(p)[:, :1], same=True),
    "one image without a batch": onnx_form(
        lambda m: (put(m, zero=[0]), front(m, node("Unsqueeze", ["image", "zero"], ["image_"]), sizes=MAP[1:]))[1]
    ),
}
