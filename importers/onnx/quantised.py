"""Quantised ONNX graphs, rewritten in float before they are read: noise acts on weights, and rounding has no gradient.

Weights become the numbers that they stand for. Activations keep the range of their quantisation, since quantisers drop a ReLU that the
range stands for, and lose its rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from banscan.errors import ModelError

# name in the graph → plain operator, for those with inputs x, its scale and zero point, and those of the result
ONE = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearReduceMean": "ReduceMean",
}
TWO = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
# attributes of the quantised operators that the plain ones do not have
FOREIGN = frozenset({"channels_last", "opset"})


@dataclass
class _Rewriting:
    """The graph being rewritten: its constants as arrays, what is added to it, the nodes that take the place of the old ones."""

    constants: dict[str, np.ndarray]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    added: dict[str, np.ndarray] = field(default_factory=dict)

    def constant(self, node: onnx.NodeProto, index: int) -> np.ndarray | None:
        """An input that is known, None where it is left out or computed."""
        name = node.input[index] if index < len(node.input) else ""
        return self.constants.get(name) if name else None

    def number(self, name: str, value: np.ndarray) -> str:
        """Adds a float constant."""
        self.added[name] = np.asarray(value, np.float32)
        return name

    def weight(self, node: onnx.NodeProto, at: int, axis: int = 0) -> str:
        """The input `at` as float, with scale and zero point behind it; one that is computed is float already."""
        value, scale, zero = (self.constant(node, at + k) for k in range(3))
        if value is None:
            return node.input[at]
        if scale is None:
            raise ModelError(f"operator {node.op_type} ({node.name}): a scale that is computed is not supported")
        return self.number(f"{node.input[at]}_float", dequantised(value, scale, zero, axis))

    def emit(self, node: onnx.NodeProto, op: str, inputs: list[str], scale: int) -> None:
        """A plain operator in place of `node`, held in the range that the inputs `scale` and the next one stand for."""
        kept = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in FOREIGN}
        output = node.output[0]
        bounds = limits(self.constant(node, scale), self.constant(node, scale + 1))
        plain = output if bounds is None else f"{output}_unbounded"
        self.nodes.append(helper.make_node(op, inputs, [plain], node.name or output, **kept))
        if bounds is not None:
            self.bound(plain, output, bounds)

    def bound(self, name: str, output: str, bounds: tuple[np.ndarray, np.ndarray]) -> None:
        low, high = (self.number(f"{output}_{side}", b) for side, b in zip(("low", "high"), bounds, strict=True))
        self.nodes.append(helper.make_node("Clip", [name, low, high], [output], f"{output}_range"))


def dequantise(model: onnx.ModelProto) -> bool:
    """Rewrites quantised operators in place; whether there were any.

    Raises:
        ModelError: a quantised operator that is not supported, or one whose parameters are computed.
    """
    graph = model.graph
    if not any(n.op_type in REWRITE for n in graph.node):
        return False
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    work = _Rewriting(constants)
    for node in graph.node:
        rewrite = REWRITE.get(node.op_type)
        if rewrite is None:
            work.nodes.append(node)
        else:
            rewrite(work, node)
    del graph.node[:]
    graph.node.extend(work.nodes)
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in work.added.items())
    used = {i for n in graph.node for i in n.input}
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return True


def dequantised(value: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int) -> np.ndarray:
    """(value - zero) * scale, the last two per tensor or along an axis."""
    shape = [1] * value.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    offset = 0.0 if zero is None else (zero.astype(np.float64).reshape(shape) if zero.size > 1 else float(zero.ravel()[0]))
    factor = scale.astype(np.float64).reshape(shape) if scale.size > 1 else float(scale.ravel()[0])
    result: np.ndarray = ((value.astype(np.float64) - offset) * factor).astype(np.float32)
    return result


def limits(scale: np.ndarray | None, zero: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """The smallest and the largest number of a quantised tensor; None where its scale is not known, or one for each channel."""
    if scale is None or scale.size != 1:
        return None
    kind = np.iinfo(np.uint8 if zero is None else zero.dtype)
    offset = 0 if zero is None else int(zero.ravel()[0])
    step = float(scale.ravel()[0])
    return np.float32((kind.min - offset) * step), np.float32((kind.max - offset) * step)  # type: ignore[return-value]


def _quantize(work: _Rewriting, node: onnx.NodeProto) -> None:
    bounds = limits(work.constant(node, 1), work.constant(node, 2))
    if bounds is None or work.constant(node, 0) is not None:
        work.nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], node.name))
    else:
        work.bound(node.input[0], node.output[0], bounds)


def _dequantize(work: _Rewriting, node: onnx.NodeProto) -> None:
    value = work.constant(node, 0)
    if value is None:
        work.nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], node.name))
        return
    scale = work.constant(node, 1)
    if scale is None:
        raise ModelError(f"operator DequantizeLinear ({node.name}): a scale that is computed is not supported")
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if attributes.get("block_size", 0):
        raise ModelError(f"operator DequantizeLinear ({node.name}): weights quantised in blocks are not supported")
    work.number(node.output[0], dequantised(value, scale, work.constant(node, 2), attributes.get("axis", 1) if scale.size > 1 else 0))


def _dynamic(work: _Rewriting, node: onnx.NodeProto) -> None:
    """Its scale depends on the image: the values stay as they are, in units of one."""
    work.nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], node.name))
    for output, value in zip(node.output[1:], (1.0, 0.0), strict=False):
        work.number(output, np.float32(value))  # type: ignore[arg-type]


def _integer(work: _Rewriting, node: onnx.NodeProto) -> None:
    weight, zero = work.constant(node, 1), work.constant(node, 3)
    name = node.input[1]
    if weight is not None:
        axis = 0 if node.op_type == "ConvInteger" else -1
        name = work.number(f"{name}_float", dequantised(weight, np.ones(1 if zero is None else zero.size), zero, axis))
    kept = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    op = "Conv" if node.op_type == "ConvInteger" else "MatMul"
    work.nodes.append(helper.make_node(op, [node.input[0], name], [node.output[0]], node.name, **kept))


def _bias(work: _Rewriting, node: onnx.NodeProto, at: int, scales: tuple[int, int]) -> list[str]:
    """The integer bias of a convolution or Gemm, whose scale is that of the image times that of the weight."""
    value, first, second = work.constant(node, at), work.constant(node, scales[0]), work.constant(node, scales[1])
    if value is None or first is None or second is None:
        return []
    return [
        work.number(f"{node.input[at]}_float", value.astype(np.float64) * (first.astype(np.float64) * second.astype(np.float64)).ravel())
    ]


def _conv(work: _Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, "Conv", [node.input[0], work.weight(node, 3), *_bias(work, node, 8, (1, 4))], 6)


def _matmul(work: _Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, "MatMul", [work.weight(node, 0), work.weight(node, 3, axis=-1)], 6)


def _gemm(work: _Rewriting, node: onnx.NodeProto) -> None:
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    weight = work.weight(node, 3, axis=0 if transposed else 1)
    work.emit(node, "Gemm", [node.input[0], weight, *_bias(work, node, 6, (1, 4))], 7)


def _one(work: _Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, ONE[node.op_type], [node.input[0]], 3)


def _two(work: _Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, TWO[node.op_type], [work.weight(node, 0), work.weight(node, 3)], 6)


def _concat(work: _Rewriting, node: onnx.NodeProto) -> None:
    work.emit(node, "Concat", [work.weight(node, at) for at in range(2, len(node.input), 3)], 0)


Rewrite = Callable[[_Rewriting, onnx.NodeProto], None]
REWRITE: dict[str, Rewrite] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "ConvInteger": _integer,
    "MatMulInteger": _integer,
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearConcat": _concat,
    **dict.fromkeys(ONE, _one),
    **dict.fromkeys(TWO, _two),
}
