"""Operator by operator: what banscan computes is what onnxruntime computes, or it is refused by name."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import helper

from banscan.errors import ModelError
from banscan.importers.onnx.operators import OPERATORS
from tests.importers.onnx.operators.graphs import graph, ours, runtime
from tests.importers.onnx.operators.rows import Row, normal, rows, whole

BY_OPERATOR: dict[str, list[Row]] = {}
for _row in rows():
    BY_OPERATOR.setdefault(f"{_row.domain}::{_row.op}".removeprefix("::"), []).append(_row)
# answers that depend on no image: known while tracing
KNOWN = frozenset({"Shape", "Size", "EyeLike"})
# those that take their number of images from a constant, or mix the images of a batch; a recurrent layer has them on its second axis
NOT_FREE = KNOWN | {
    "AffineGrid",
    "Attention",
    "Concat",
    "GRU",
    "GatherElements",
    "GatherND",
    "GridSample",
    "LSTM",
    "MultiHeadAttention",
    "RNN",
    "ScatterElements",
    "ScatterND",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}
# tried elsewhere: control flow, sequences, what is rewritten before it is read
ELSEWHERE = frozenset(
    [
        "ConcatFromSequence",
        "If",
        "Loop",
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceLength",
        "SplitToSequence",
        "Range",
        "ConstantOfShape",
        "NonZero",
        "ReverseSequence",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QuantizeLinear",
        "com.microsoft::DequantizeLinear",
        "com.microsoft::QuantizeLinear",
        "CumProd",
        "BitwiseNot",
        "Scatter",
        "SimplifiedLayerNormalization",
        "Swish",
        "ai.onnx.ml::Normalizer",
        "ai.onnx.ml::Scaler",
        "com.microsoft::BiasSoftmax",
        "com.microsoft::GridSample",
        "com.microsoft::LayerNormalization",
        "com.microsoft::Pad",
        "com.microsoft::TransposeMatMul",
    ]
)


def ways(row: Row) -> Iterator[tuple[onnx.ModelProto, np.ndarray]]:
    """The operator on pixels, and on constants."""
    if row.op not in KNOWN:
        yield graph(row), row.x
    if row.static and row.expected is None and (row.opset > 6 or row.domain):
        yield graph(row, constant=True), np.zeros((2, 1), np.float32)


def close(row: Row, given: np.ndarray, expected: np.ndarray) -> bool:
    finite = expected[np.isfinite(expected)]
    largest = max(1.0, float(np.abs(finite).max(initial=0)))
    return given.shape == expected.shape and np.allclose(given, expected, rtol=1e-5, atol=row.close * largest, equal_nan=True)


@pytest.mark.parametrize("name", BY_OPERATOR)
def test_as_onnxruntime(name: str) -> None:
    wrong = []
    for row in BY_OPERATOR[name]:
        for model, x in ways(row):
            expected = runtime(model, x) if row.expected is None else row.expected
            if not close(row, ours(model, x), expected):
                wrong.append(str(row))
    assert not wrong


@pytest.mark.parametrize("name", [name for name in BY_OPERATOR if name.rpartition("::")[2] not in NOT_FREE])
def test_traced(name: str) -> None:
    """The same, recorded with a free number of images."""
    free = [
        row for row in BY_OPERATOR[name] if row.place == 0 and not any(r is not None and len(r) == 2 for r in row.rest if np.ndim(r) > 1)
    ]
    row = next((r for r in free if r.expected is None), free[0])
    model = graph(row)
    expected = runtime(model, row.x) if row.expected is None else row.expected
    assert close(row, ours(model, row.x, traced=True), expected)


def test_every_operator_is_tried() -> None:
    assert set(OPERATORS) - set(BY_OPERATOR) <= ELSEWHERE


REFUSED = {
    "attribute": (
        Row(op="Attention", opset=23, x=normal(2, 2, 5, 4), rest=(normal(2, 2, 5, 4),) * 2, attributes={"qk_matmul_output_mode": 1}),
        "the attribute qk_matmul_output_mode",
    ),
    "mode": (
        Row(
            op="Resize",
            opset=11,
            x=normal(2, 2, 4, 4),
            rest=(None, np.array([1, 1, 2, 2], np.float32)),
            attributes={"coordinate_transformation_mode": "other"},
        ),
        "coordinate_transformation_mode other",
    ),
    "foreign attribute": (Row(op="Relu", opset=13, x=normal(2, 3), attributes={"alpha": 0.5}), "the attribute alpha"),
    "inputs": (Row(op="Relu", opset=13, x=normal(2, 3), rest=(normal(3),)), "a form with 2 inputs"),
    "second output": (
        Row(op="MaxPool", opset=12, x=normal(2, 2, 4, 4), attributes={"kernel_shape": [2, 2]}, output=1, outputs=2),
        "output 2",
    ),
    "layout": (
        Row(op="LSTM", opset=14, x=normal(2, 5, 3), rest=(normal(1, 16, 3), normal(1, 16, 4)), attributes={"hidden_size": 4, "layout": 1}),
        "layout",
    ),
    "order": (
        Row(op="TopK", opset=11, x=normal(2, 5), rest=(np.array([2]),), attributes={"sorted": 0}, outputs=2),
        "an order that the runtime is free to choose",
    ),
    "places": (Row(op="NonZero", opset=13, x=normal(2, 3)), "computed from the pixels"),
    "batch": (Row(op="MeanVarianceNormalization", opset=13, x=normal(2, 3, 4, 4)), "over the images of a batch"),
    "random": (Row(op="RandomNormalLike", opset=1, x=normal(2, 3)), "operator RandomNormalLike (node) is not supported"),
    "detector": (
        Row(op="NonMaxSuppression", opset=11, x=normal(1, 3, 4), rest=(normal(1, 2, 3),)),
        "operator NonMaxSuppression (node) is not supported",
    ),
    "shape": (Row(op="MatMul", opset=13, x=normal(2, 3), rest=(normal(4, 5),)), "operator MatMul (node): "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    row, said = REFUSED[name]
    with pytest.raises(ModelError) as caught:
        ours(graph(row), row.x)
    assert said in str(caught.value)
    assert f"operator {row.op} (node)" in str(caught.value)
    assert "\n" not in str(caught.value)


def steps(nodes: list[onnx.NodeProto], **values: np.ndarray) -> onnx.ModelProto:
    """A graph of several nodes, x [n, 6] → y."""
    x, y = (helper.make_tensor_value_info(name, 1, sizes) for name, sizes in (("x", ["n", 6]), ("y", None)))
    tensors = [onnx.numpy_helper.from_array(v, k) for k, v in values.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(op: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def loop() -> list[onnx.NodeProto]:
    count, going = (helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", 7), ("c", 9)))
    value, on, row = (helper.make_tensor_value_info(name, kind, None) for name, kind in (("v", 1), ("on", 9), ("row", 1)))
    after = helper.make_tensor_value_info("w", 1, None)
    body = [node("Cast", "i", "f", to=1), node("Add", "v f", "w"), node("Identity", "c", "on"), node("Identity", "w", "row")]
    inner = helper.make_graph(body, "body", [count, going, value], [on, after, row])
    return [
        node("Loop", "rounds true x", "last all", body=inner),
        node("ReduceSum", "all zero", "sum", keepdims=0),
        node("Add", "sum last", "y"),
    ]


SEVERAL = {
    "sequence": (
        [node("SplitToSequence", "x three", "s", axis=1), node("SequenceAt", "s one", "y")],
        {"three": whole(2, 2, 2), "one": np.array(1)},
    ),
    "built": (
        [
            node("SequenceEmpty", "", "e"),
            node("SequenceInsert", "e x", "s"),
            node("SequenceInsert", "s x", "t"),
            node("ConcatFromSequence", "t", "y", axis=1),
        ],
        {},
    ),
    "constructed": ([node("SequenceConstruct", "x x", "s"), node("ConcatFromSequence", "s", "y", axis=-1, new_axis=1)], {}),
    "range": ([node("Range", "a b c", "r"), node("Mul", "x r", "y")], {"a": np.float32(1), "b": np.float32(7), "c": np.float32(1)}),
    "filled": (
        [node("Shape", "x", "s"), node("ConstantOfShape", "s", "f", value=helper.make_tensor("v", 1, [1], [2.5])), node("Mul", "x f", "y")],
        {},
    ),
    "sizes": (
        [
            node("Shape", "x", "s"),
            node("Cast", "s", "f", to=1),
            node("Mul", "f k", "g"),
            node("Floor", "g", "h"),
            node("Cast", "h", "t", to=7),
            node("Expand", "u t", "e"),
            node("ReduceSum", "e", "z", keepdims=0),
            node("Mul", "x z", "m"),
            node("Reshape", "m t", "y"),
        ],
        {"k": np.array([1, 1], np.float32), "u": np.ones((1, 1), np.float32)},
    ),
    "places": (
        [node("NonZero", "m", "p"), node("Squeeze", "p zero", "q"), node("Gather", "x q", "y", axis=1)],
        {"m": whole(0, 1, 1, 0, 0, 1), "zero": whole(0)},
    ),
    "reversed": ([node("Transpose", "x", "t", perm=[1, 0]), node("Transpose", "t", "u", perm=[1, 0]), node("Identity", "u", "y")], {}),
    "loop": (loop(), {"rounds": np.array(3), "true": np.array(True), "zero": whole(0)}),
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("traced", [False, True])
def test_several_nodes(name: str, traced: bool) -> None:
    nodes, values = SEVERAL[name]
    model, x = steps(nodes, **values), normal(2, 6)
    assert np.allclose(ours(model, x, traced=traced), runtime(model, x), atol=1e-5)


def test_a_loop_without_end() -> None:
    model = steps(loop(), rounds=np.array(10**9), true=np.array(True), zero=whole(0))
    with pytest.raises(ModelError, match=r"operator Loop \(last\): more than 1024 rounds"):
        ours(model, normal(2, 6))
