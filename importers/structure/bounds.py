"""Which values a tensor of an ONNX graph can have, by arithmetic of intervals from those of the pixels."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto

from banscan.importers.structure.flow import Flow, attributes

Interval = tuple[float, float]
ANY: Interval = (-math.inf, math.inf)
YES: Interval = (0.0, 1.0)
# they answer some of the values that they get
MOVE = frozenset(
    {
        "Compress", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "GlobalMaxPool", "Identity", "MaxPool",
        "ReduceMax", "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
# or a mean of them
MEANS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "Mean"})
ANSWERS = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor"})
PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
FIXED: dict[str, Interval] = {
    "Abs": (0.0, math.inf),
    "Exp": (0.0, math.inf),
    "HardSigmoid": YES,
    "Hardmax": YES,
    "LogSoftmax": (-math.inf, 0.0),
    "Relu": (0.0, math.inf),
    "Sigmoid": YES,
    "Sign": (-1.0, 1.0),
    "Softmax": YES,
    "Softplus": (0.0, math.inf),
    "Sqrt": (0.0, math.inf),
    "Tanh": (-1.0, 1.0),
}


def bounds(flow: Flow, pixels: Interval, constants: Mapping[str, np.ndarray], image: str) -> dict[str, Interval]:
    """Of all tensors that depend on the pixels, which lie within `pixels`; a comparison that can only be answered one way has one value."""
    known: dict[str, Interval] = {image: pixels}
    for step in flow.steps:
        if not any(o in flow.depends for o in step.makes):
            continue
        given = [_of(i, known, constants) for i in step.node.input]
        try:
            value = _products(step.node, given, constants) if step.node.op_type in PRODUCTS else _value(step.node, given)
        except (ValueError, OverflowError, IndexError):
            value = ANY
        value = ANY if any(math.isnan(v) for v in value) else value
        known.update((o, value if k == 0 or step.node.op_type == "Split" else ANY) for k, o in enumerate(step.makes))
    return known


def by_part(flow: Flow, known: Mapping[str, Interval], constants: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lower and upper bounds [C] of each part of vectors [N, C]: products with weights, and what is made of these part by part."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for step in flow.steps:
        node = step.node
        if not step.makes or step.makes[0] not in known:
            continue
        given = [_of(i, known, constants) for i in node.input]
        ends: tuple[np.ndarray, np.ndarray] | None = None
        if node.op_type in ("Gemm", "MatMul"):
            ends = _rows(node, given, constants)
        elif own := next((found[i] for i in node.input if i in found), None):
            ends = _part_by_part(node, own, constants)
        if ends is not None and np.isfinite(ends).all():
            found[step.makes[0]] = ends
    return found


def _part_by_part(
    node: onnx.NodeProto, own: tuple[np.ndarray, np.ndarray], constants: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    low, high = own
    if node.op_type in ("Identity", "Relu"):
        least = 0.0 if node.op_type == "Relu" else -math.inf
        return np.maximum(low, least), np.maximum(high, least)
    if node.op_type not in ("Add", "Mul", "Sub"):
        return None
    other = next((constants[i].reshape(-1).astype(np.float64) for i in node.input if i in constants), None)
    if other is None or other.size not in (1, low.size):
        return None
    if node.op_type == "Sub":
        return (low - other, high - other) if node.input[1] in constants else (other - high, other - low)
    ends = (low + other, high + other) if node.op_type == "Add" else (low * other, high * other)
    return np.minimum(*ends), np.maximum(*ends)


def _of(name: str, known: Mapping[str, Interval], constants: Mapping[str, np.ndarray]) -> Interval:
    if name in known:
        return known[name]
    value = constants.get(name)
    if value is None or not value.size or value.dtype.kind not in "biuf" or not np.isfinite(value).all():
        return ANY
    return float(value.min()), float(value.max())


def _value(node: onnx.NodeProto, given: Sequence[Interval]) -> Interval:
    op = node.op_type
    first = given[0] if given else ANY
    if op in ANSWERS:
        return _answer(op, given)
    if op == "Cast":
        to = attributes(node).get("to")
        return YES if to == TensorProto.BOOL else first if to in (TensorProto.FLOAT, TensorProto.DOUBLE) else _whole(first)
    if op in MOVE or op in MEANS:
        return first
    if op in FIXED:
        low, high = FIXED[op]
        return (max(low, first[0]), max(low, first[1])) if op == "Relu" else (low, high)
    if op == "Clip":
        low, high = _limits(node, given)
        return min(max(first[0], low), high), min(max(first[1], low), high)
    if op in ("Floor", "Ceil", "Round"):
        return _whole(first)
    if op in ("Max", "Min"):
        choose = max if op == "Max" else min
        return choose(g[0] for g in given), choose(g[1] for g in given)
    if op == "Concat":
        return min(g[0] for g in given), max(g[1] for g in given)
    if op == "Where":
        return min(g[0] for g in given[1:]), max(g[1] for g in given[1:])
    if op in ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"):
        return (0.0 if first[0] >= 0 or op != "ReduceSum" else -math.inf), (math.inf if first[1] > 0 or op != "ReduceSum" else 0.0)
    if op == "Neg":
        return -first[1], -first[0]
    if (op == "Mul" and node.input[0] == node.input[1]) or (op == "Pow" and given[1] == (2.0, 2.0)):
        squares = [a * a for a in first]
        return (0.0 if first[0] <= 0 <= first[1] else min(squares)), max(squares)
    arithmetic: dict[str, Callable[[float, float], float]] = {
        "Add": lambda a, b: a + b,
        "Sub": lambda a, b: a - b,
        "Mul": lambda a, b: 0.0 if 0 in (a, b) else a * b,
    }
    if op in arithmetic:
        corners = [arithmetic[op](a, b) for a in given[0] for b in given[1]]
        return min(corners), max(corners)
    if op == "Div" and given[1][0] > 0:
        corners = [a / b for a in given[0] for b in given[1] if not (math.isinf(a) and math.isinf(b))]
        return (min(corners), max(corners)) if len(corners) == 4 else ANY
    return ANY


def _products(node: onnx.NodeProto, given: Sequence[Interval], constants: Mapping[str, np.ndarray]) -> Interval:
    """Of sums of products with weights, the widest of their channels."""
    ends = _rows(node, given, constants)
    return ANY if ends is None else (float(ends[0].min()), float(ends[1].max()))


def _rows(node: onnx.NodeProto, given: Sequence[Interval], constants: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Of sums of products with weights, for each channel."""
    low, high = given[0]
    weight, own = constants.get(node.input[1]), attributes(node)
    if weight is None or not (math.isfinite(low) and math.isfinite(high)) or own.get("alpha", 1.0) != 1.0 or own.get("beta", 1.0) != 1.0:
        return None
    # zeros at the border
    low, high = (min(low, 0.0), max(high, 0.0)) if node.op_type == "Conv" else (low, high)
    turned = node.op_type == "Conv" or own.get("transB", 0)
    rows = (weight if turned else np.moveaxis(weight, -1, 0)).astype(np.float64).reshape(weight.shape[0 if turned else -1], -1)
    plus, minus = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
    bias = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    if bias is None:
        return None
    bias = np.broadcast_to(bias.reshape(-1), plus.shape)
    return plus * low + minus * high + bias, plus * high + minus * low + bias


def _whole(given: Interval) -> Interval:
    low, high = given
    return (math.floor(low) if math.isfinite(low) else low), (math.ceil(high) if math.isfinite(high) else high)


def _limits(node: onnx.NodeProto, given: Sequence[Interval]) -> Interval:
    """Of a Clip, by its attributes or its further inputs."""
    own = attributes(node)
    low = own.get("min", given[1][0] if len(given) > 1 and node.input[1] else -math.inf)
    high = own.get("max", given[2][1] if len(given) > 2 and node.input[2] else math.inf)
    return float(low), float(high)


def _answer(op: str, given: Sequence[Interval]) -> Interval:
    (low, high) = given[0]
    if op in ("IsNaN", "IsInf"):
        return (0.0, 0.0) if math.isfinite(low) and math.isfinite(high) else YES
    if op == "Not":
        return 1 - high, 1 - low
    if len(given) < 2:
        return YES
    other_low, other_high = given[1]
    if op == "And":
        return min(low, other_low), min(high, other_high)
    if op == "Or":
        return max(low, other_low), max(high, other_high)
    if op in ("Less", "LessOrEqual"):
        low, high, other_low, other_high = other_low, other_high, low, high
        op = "Greater" if op == "Less" else "GreaterOrEqual"
    if op == "Greater":
        return float(low > other_high), float(high > other_low)
    if op == "GreaterOrEqual":
        return float(low >= other_high), float(high >= other_low)
    if op == "Equal":
        return 0.0, float(low <= other_high and other_low <= high)
    return YES
