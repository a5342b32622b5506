"""Quantised graphs round as onnxruntime does: halves, limits, NaN and infinite numbers, one step or several, and steps of each image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from banscan import importers
from banscan.errors import ModelError
from banscan.importers.onnx import quantised
from tests.importers.equivalent.network import graph as network_graph
from tests.importers.equivalent.surgery import node, put, value
from tests.importers.onnx.operators.graphs import ours, runtime
from tests.importers.test_load import refused

RNG = np.random.default_rng(3)
INTEGERS = ("uint8", "int8", "uint16", "int16")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


def model(x: np.ndarray, *nodes: onnx.NodeProto, opset: int = 21, **constants: Any) -> onnx.ModelProto:
    """x [N, ...] through these nodes to "y", float32."""
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *x.shape[1:]])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "g", [entry], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def both(given: onnx.ModelProto, x: np.ndarray, *, traced: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """banscan's answer and onnxruntime's."""
    theirs = runtime(given, x)
    assert quantised.dequantise(given)
    return ours(given, x, traced=traced), theirs


def numbers(step: float, *shape: int) -> np.ndarray:
    """Some of every kind: halves of a step, beyond the limits, infinite, none, and drawn ones."""
    halves = (np.arange(-300, 300) + 0.5) * step
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, 3e38, -3e38])
    drawn = RNG.normal(size=4000) * 100 * step
    values = np.concatenate([halves, odd, drawn]).astype(np.float32)
    count = int(np.prod(shape))
    return values[: len(values) // count * count].reshape(-1, *shape)


def pair(kind: Any, zero: Any, **attributes: Any) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    inputs = ["s", "z"] if zero is not None else ["s"]
    return node("QuantizeLinear", ["x", *inputs], ["q"], **attributes), node("DequantizeLinear", ["q", *inputs], ["y"], **attributes)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("step", [0.25, 0.1, 3.7e-4])
def test_rounding(kind: str, step: float) -> None:
    limits = np.iinfo(kind)
    x = numbers(step, 4, 2)
    for zero in (limits.min, limits.max, 3):
        given = model(x, *pair(kind, zero), s=np.float32(step), z=np.array(zero, kind))
        np.testing.assert_array_equal(*both(given, x, traced=zero == 3))


def test_without_a_zero_point() -> None:
    x = numbers(0.1, 4)
    np.testing.assert_array_equal(*both(model(x, *pair("uint8", None), s=np.float32(0.1)), x))


@pytest.mark.parametrize(("axis", "size"), [(1, 3), (-1, 5), (2, 4)])
def test_rounding_by_channel(axis: int, size: int) -> None:
    x = numbers(0.1, 3, 4, 5)
    scale = np.linspace(0.01, 0.3, size).astype(np.float32)
    zero = np.arange(size).astype(np.int8)
    np.testing.assert_array_equal(*both(model(x, *pair("int8", zero, axis=axis), s=scale, z=zero), x, traced=True))


@pytest.mark.parametrize("kind", FLOAT8)
def test_rounding_to_numbers_of_8_bits(kind: str) -> None:
    x = numbers(0.1, 4)
    dtype = np.dtype(getattr(ml_dtypes, kind))
    given = model(x, *pair(dtype, 0), s=np.float32(0.5))
    given.graph.initializer.append(helper.make_tensor("z", helper.np_dtype_to_tensor_dtype(dtype), [], [0.0]))
    np.testing.assert_array_equal(*both(given, x))


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (1,)])
def test_steps_of_the_image(shape: tuple[int, ...]) -> None:
    """Each image by itself, its integers, its scale and its zero point."""
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Cast", ["z"], ["f"], to=TensorProto.FLOAT),
        node("Cast", ["q"], ["w"], to=TensorProto.FLOAT),
        node("Sum", ["d", "f", "s", "w"], ["y"]),
    ]
    x = RNG.normal(size=(40, *shape)).astype(np.float32)
    x[10:20] = np.abs(x[10:20])
    x[20:25] = -np.abs(x[20:25])
    x[25] = 0
    x[26] = np.float32(0.1)
    x[27], x[28], x[29] = np.float32(1e-44), np.float32(-1e-44), np.float32(3e38)
    x[30].flat[0], x[31].flat[0], x[32].flat[0] = np.nan, np.inf, -np.inf
    theirs = np.concatenate([runtime(model(x, *nodes), x[i : i + 1]) for i in range(len(x))])
    given = model(x, *nodes)
    assert quantised.dequantise(given)
    np.testing.assert_array_equal(ours(given, x, traced=True), theirs)


def conv(x: np.ndarray) -> dict[str, Any]:
    return {
        "xs": np.float32(0.03),
        "xz": np.uint8(120),
        "w": RNG.integers(-127, 128, (6, x.shape[1], 3, 3)).astype(np.int8),
        "ws": np.linspace(0.001, 0.01, 6).astype(np.float32),
        "wz": np.zeros(6, np.int8),
        "ys": np.float32(0.05),
        "yz": np.uint8(100),
        "b": RNG.integers(-2000, 2000, 6).astype(np.int32),
    }


def layers() -> Iterator[tuple[str, list[onnx.NodeProto], dict[str, Any], tuple[int, ...]]]:
    first, last = node("QuantizeLinear", ["x", "xs", "xz"], ["q"]), node("DequantizeLinear", ["r", "ys", "yz"], ["y"])
    step = ["xs", "xz"]
    image = RNG.normal(size=(1, 3, 6, 6))
    inputs = ["q", *step, "w", "ws", "wz", "ys", "yz", "b"]
    yield "QLinearConv", [first, node("QLinearConv", inputs, ["r"], pads=[1] * 4), last], conv(image), (3, 6, 6)
    matrix = conv(image) | {"w": RNG.integers(-127, 128, (8, 6)).astype(np.int8)}
    yield "QLinearMatMul", [first, node("QLinearMatMul", inputs[:-1], ["r"]), last], matrix, (8,)
    gemm = ["q", *step, "w", "ws", "wz", "b", "ys", "yz"]
    yield "QGemm", [first, node("QGemm", gemm, ["r"], domain="com.microsoft"), last], matrix, (8,)
    for op in ("QLinearAdd", "QLinearMul"):
        twice = ["q", *step, "q", *step, "ys", "yz"]
        yield op, [first, node(op, twice, ["r"], domain="com.microsoft"), last], conv(image), (3, 6, 6)
    for op, more in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.1}), ("QLinearGlobalAveragePool", {"channels_last": 0})):
        yield op, [first, node(op, ["q", *step, "ys", "yz"], ["r"], domain="com.microsoft", **more), last], conv(image), (3, 6, 6)


LAYERS = {name: rest for name, *rest in layers()}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    """One step at most, where the sum lies on the edge between two, and there nearly nowhere."""
    nodes, constants, shape = LAYERS[name]
    x = RNG.normal(size=(40, *shape)).astype(np.float32)
    mine, theirs = both(model(x, *nodes, **constants), x)
    apart = np.abs(mine - theirs) / 0.05
    assert mine.shape == theirs.shape
    assert apart.max() < 1.001
    assert (apart > 1e-3).mean() < 0.01


def test_another_scale_on_the_way_back() -> None:
    """Integers are read with the scale and the zero point of who reads them."""
    x = numbers(0.1, 4)
    nodes = node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "t", "u"], ["y"])
    given = model(x, *nodes, s=np.float32(0.1), z=np.uint8(3), t=np.float32(7), u=np.uint8(120))
    np.testing.assert_array_equal(*both(given, x))


def test_integers_wrap_around() -> None:
    """Where others than quantised operators compute with the integers."""
    x = np.linspace(-3, 30, 400).astype(np.float32).reshape(100, 4)
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("Reshape", ["q", "to"], ["m"]),
        node("Sub", ["m", "z"], ["w"]),
        node("Cast", ["w"], ["y"], to=TensorProto.FLOAT),
    ]
    given = model(x, *nodes, s=np.float32(0.1), z=np.uint8(13), to=np.array([-1, 2, 2]))
    np.testing.assert_array_equal(*both(given, x))


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan, np.inf])
def test_steps_that_are_none(step: float, tmp_path: Path) -> None:
    x = numbers(0.1, 4)
    with pytest.raises(ModelError, match="a scale that is not above 0"):
        quantised.dequantise(model(x, *pair("uint8", 0), s=np.float32(step), z=np.uint8(0)))


def with_rows(model: onnx.ModelProto, shape: list[int]) -> onnx.ModelProto:
    """The features [N, 12] in another shape, and back, with steps of the image in between."""
    put(model, shape=np.array(shape), back=np.array([-1, 12]))
    head = model.graph.node.pop()
    middle = [node("DynamicQuantizeLinear", ["rows"], ["q", "s", "z"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])]
    model.graph.node.extend([node("Reshape", ["features", "shape"], ["rows"]), *middle, node("Reshape", ["d", "back"], ["e"])])
    head.input[0] = "e"
    model.graph.node.append(head)
    return model


def test_steps_of_an_image_in_parts(tmp_path: Path) -> None:
    """Windows of an image on the axis of the images have one scale."""
    onnx.save(with_rows(network_graph(), [-1, 3]), tmp_path / "rows.onnx")
    found = importers.parity(importers.load(tmp_path / "rows.onnx"), images())
    assert found is not None
    assert found.rms < 1e-5


def test_steps_of_several_images_on_one_axis(tmp_path: Path) -> None:
    onnx.save(with_rows(network_graph(), [-1]), tmp_path / "rows.onnx")
    refused(tmp_path / "rows.onnx", "values of several images on one axis")


def test_a_layer_of_integers_has_the_units_of_the_image(tmp_path: Path) -> None:
    """Else noise on it would be larger for an image of larger numbers, and so would be what is learnt from it."""
    given = network_graph()
    w = value(given, "stem.weight")
    step = np.float32(np.abs(w).max() / 127)
    put(given, wq=np.round(w / step).astype(np.int8), ws=step, flat=value(given, "stem.bias").reshape(-1, 1, 1))
    rest = list(given.graph.node)[1:]
    del given.graph.node[:]
    given.graph.node.extend(
        [
            node("DynamicQuantizeLinear", ["image"], ["q", "s", "z"]),
            node("ConvInteger", ["q", "wq", "z"], ["whole"], pads=[1] * 4),
            node("Cast", ["whole"], ["real"], to=TensorProto.FLOAT),
            node("Mul", ["s", "ws"], ["both"]),
            node("Mul", ["real", "both"], ["product"]),
            node("Add", ["product", "flat"], ["stem"]),
            *rest,
        ]
    )
    onnx.save(given, tmp_path / "layer.onnx")
    read, x = importers.load(tmp_path / "layer.onnx"), images()
    front = read.split(read.neurons[0].node)[0]
    assert torch.allclose(front(2 * x), 2 * front(x), rtol=1e-4)
    found = importers.parity(read, x)
    assert found is not None
    assert found.rms < 1e-5


def test_a_fixed_batch_with_steps_of_the_image(tmp_path: Path) -> None:
    given = network_graph()
    given.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    head = given.graph.node.pop()
    given.graph.node.extend(
        [node("DynamicQuantizeLinear", ["features"], ["q", "s", "z"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])]
    )
    head.input[0] = "d"
    given.graph.node.append(head)
    onnx.save(given, tmp_path / "fixed.onnx")
    found = importers.parity(importers.load(tmp_path / "fixed.onnx"), images())
    assert found is not None
    assert found.rms < 1e-5


def images() -> torch.Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
