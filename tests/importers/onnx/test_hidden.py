"""What a sloppy reading would lose, and what could hide behind it: it is computed as the runtime does, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from banscan import importers
from tests.importers.equivalent.network import graph
from tests.importers.equivalent.surgery import before_head, node, put
from tests.importers.test_load import refused

Change = Callable[[onnx.ModelProto], None]


def added(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Adds the last tensor of these nodes [N, 1] to all features."""
    before_head(model, *nodes, node("Add", ["features", nodes[-1].output[0]], ["joined"]))


def corner(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The first pixel of each image, [N, 1]."""
    put(model, begin=np.array([0, 0, 0]), end=np.array([1, 1, 1]), axes=np.array([1, 2, 3]))
    return [node("Slice", ["image", "begin", "end", "axes"], ["cut"]), node("Flatten", ["cut"], ["corner"], axis=1)]


def absorbed(model: onnx.ModelProto) -> None:
    """In float32 this is always 0."""
    put(model, large=np.array(1e10))
    steps = node("Cast", ["corner"], ["d"], to=TensorProto.DOUBLE), node("Add", ["d", "large"], ["e"]), node("Sub", ["e", "large"], ["g"])
    added(model, *corner(model), *steps, node("Cast", ["g"], ["h"], to=TensorProto.FLOAT))


def residual(kind: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        put(model, far=np.float32(1000))
        steps = (
            node("Cast", ["corner"], ["n"], to=kind),
            node("Cast", ["n"], ["w"], to=TensorProto.FLOAT),
            node("Sub", ["corner", "w"], ["r"]),
        )
        added(model, *corner(model), *steps, node("Mul", ["r", "far"], ["s"]))

    return change


@pytest.mark.parametrize("change", [absorbed, residual(TensorProto.FLOAT16), residual(TensorProto.BFLOAT16)])
def test_casts_are_computed(tmp_path: Path, change: Change) -> None:
    model = graph()
    change(model)
    onnx.save(model, tmp_path / "hidden.onnx")
    read = importers.load(tmp_path / "hidden.onnx")
    plain = importers.load(saved(graph(), tmp_path / "plain.onnx"))
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float((read.logits(x) - plain.logits(x)).abs().max()) > 1e-2
    found = importers.parity(read, x)
    assert found is not None
    assert found.rms < 1e-5


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def test_integers_that_wrap_around_are_refused(tmp_path: Path) -> None:
    model = graph()
    put(model, one=np.array(1, np.uint32))
    steps = node("Cast", ["corner"], ["u"], to=TensorProto.UINT32), node("Sub", ["u", "one"], ["v"])
    added(model, *corner(model), *steps, node("Cast", ["v"], ["w"], to=TensorProto.FLOAT))
    refused(saved(model, tmp_path / "wraps.onnx"), "a cast to uint32")


def test_a_comparison_with_the_number_of_images_is_refused(tmp_path: Path) -> None:
    model = graph()
    put(model, zero=np.array(0), one=np.array(1))
    steps = [
        node("Shape", ["image"], ["sizes"]),
        node("Gather", ["sizes", "zero"], ["count"]),
        node("Equal", ["count", "one"], ["single"]),
        node("Cast", ["single"], ["w"], to=TensorProto.FLOAT),
    ]
    added(model, *corner(model), *steps, node("Mul", ["corner", "w"], ["s"]))
    refused(saved(model, tmp_path / "single.onnx"), "a comparison with the number of images")


def test_images_that_count_together_are_refused(tmp_path: Path) -> None:
    """The brightest of all images decides."""
    model = graph()
    put(model, axis=np.array([0]))
    added(model, *corner(model), node("ReduceMax", ["corner"], ["t"], axes=[0]))
    refused(saved(model, tmp_path / "together.onnx"), "each image by itself")


def detector(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """How far the first pixel of each image is beyond 0.95, [N, 1], "seen": 0 on clean images."""
    put(model, bright=np.float32(0.95))
    return [*corner(model), node("Sub", ["corner", "bright"], ["over"]), node("Relu", ["over"], ["seen"])]


def hidden(*steps: onnx.NodeProto, version: int = 17, **constants: Any) -> Change:
    """What these nodes make of "seen" is added to all features; it is 0 where nothing is seen."""

    def change(model: onnx.ModelProto) -> None:
        put(model, **constants)
        added(model, *detector(model), *steps)
        model.opset_import[0].version = version

    return change


NAN = node("Neg", ["seen"], ["below"]), node("Sqrt", ["below"], ["none"])
COARSE = node("QuantizeLinear", ["seen", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])
HIDDEN = {
    "what a rounding leaves": hidden(*COARSE, node("Sub", ["seen", "d"], ["r"]), s=np.float32(1), z=np.uint8(0)),
    "another scale on the way back": hidden(
        COARSE[0], node("DequantizeLinear", ["q", "t", "z"], ["d"]), s=np.float32(1e-3), t=np.float32(1), z=np.uint8(0)
    ),
    "another zero point on the way back": hidden(
        COARSE[0],
        node("DequantizeLinear", ["q", "s", "u"], ["d"]),
        node("Relu", ["d"], ["e"]),
        s=np.float32(1e-3),
        z=np.uint8(9),
        u=np.uint8(20),
    ),
    "integers that wrap around": hidden(
        COARSE[0],
        node("Sub", ["z", "q"], ["w"]),
        node("Cast", ["w"], ["d"], to=TensorProto.FLOAT),
        node("Mul", ["d", "s"], ["e"]),
        s=np.float32(1e-2),
        z=np.uint8(0),
    ),
    "the scale of the image": hidden(
        node("DynamicQuantizeLinear", ["seen"], ["q", "s", "z"]),
        node("Sub", ["s", "one"], ["t"]),
        node("Abs", ["t"], ["e"]),
        one=np.float32(1),
    ),
    "NaN, rounded": hidden(
        *NAN,
        node("QuantizeLinear", ["none", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        s=np.float32(0.1),
        z=np.int8(0),
    ),
    "the first of NaN": hidden(
        *NAN,
        node("Pad", ["none", "beside"], ["both"]),
        node("ArgMax", ["both"], ["m"], axis=1),
        node("Cast", ["m"], ["d"], to=TensorProto.FLOAT),
        beside=np.array([0, 1, 0, 0]),
    ),
    "the last of NaN": hidden(
        *NAN,
        node("Pad", ["none", "beside"], ["both"]),
        node("ArgMin", ["both"], ["m"], axis=1),
        node("Cast", ["m"], ["d"], to=TensorProto.FLOAT),
        beside=np.array([0, 0, 0, 1]),
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_only_a_trigger_shows_is_computed(tmp_path: Path, name: str) -> None:
    model = graph()
    HIDDEN[name](model)
    read = importers.load(saved(model, tmp_path / "hidden.onnx"))
    plain = importers.load(saved(graph(), tmp_path / "plain.onnx"))
    x = 0.9 * torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    triggered = x.clone()
    triggered[:, :, 0, 0] = torch.linspace(0.96, 1.5, 8)[:, None]
    for images in (x, triggered):
        found = importers.parity(read, images)
        assert found is not None
        assert found.rms < 1e-5
    assert (read.logits(triggered) - plain.logits(triggered)).abs().max() > 1e-3 or "NaN" in name
