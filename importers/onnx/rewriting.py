"""A quantised graph while it is rewritten: the constants of it, what is added, and what takes the place of its nodes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from banscan.errors import ModelError
from banscan.importers.onnx import numbers
from banscan.importers.onnx.constants import Constants

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
# what moves values and changes none: integers or the numbers that they stand for
MOVING = frozenset(
    {
        "MaxPool",
        "Reshape",
        "Flatten",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Concat",
        "Gather",
        "Slice",
        "Split",
        "Identity",
        "Expand",
        "Tile",
    }
    | {"DepthToSpace", "SpaceToDepth"}
)
# what has the same answer for integers and the numbers that they stand for
RANKING = frozenset({"ArgMax", "ArgMin"})
# operators that are told the scale of what they read
TAKES_QUANTISED = frozenset(
    {"DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "QLinearConcat", "MatMulIntegerToFloat", *ONE, *TWO}
)


@dataclass
class Rewriting:
    """The graph being rewritten: its constants, the nodes that read each tensor, the nodes that take the place of the old ones.

    `real` holds the tensors that are integers in the file and the numbers that they stand for here; `added` what is a float constant now.
    """

    constants: Constants
    readers: dict[str, list[onnx.NodeProto]]
    results: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    added: dict[str, np.ndarray] = field(default_factory=dict)
    real: set[str] = field(default_factory=set)

    def constant(self, node: onnx.NodeProto, index: int) -> np.ndarray | None:
        """An input that is known, None where it is left out or computed."""
        name = node.input[index] if index < len(node.input) else ""
        return self.constants.value(name) if name else None

    def number(self, name: str, value: np.ndarray) -> str:
        """Adds a float constant; another of the same name gets a new one."""
        value = np.asarray(value, np.float32)
        plain, count = name, 0
        while name in self.added and not np.array_equal(self.added[name], value):
            count += 1
            name = f"{plain}_{count}"
        self.added[name] = value
        return name

    def put(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A plain operator."""
        self.nodes.append(helper.make_node(op, inputs, [output], f"{output}/{op}", **attributes))
        return output

    def weight(self, node: onnx.NodeProto, at: int, axis: int = 0) -> str:
        """The input `at` as float, with scale and zero point behind it."""
        value, scale, zero = (self.constant(node, at + k) for k in range(3))
        if scale is None:
            raise ModelError(f"operator {node.op_type} ({node.name}): a scale that is computed is not supported")
        if value is None:
            name = node.input[at]
            return name if name in self.real else self.dequantised(name, f"{node.output[0]}_{at}", scale, zero, axis, 0)
        return self.number(f"{node.input[at]}_float", numbers.dequantised(value, scale, zero, axis))

    def dequantised(self, name: str, output: str, scale: np.ndarray, zero: np.ndarray | None, axis: int, rank: int) -> str:
        """Computes (x - zero) * scale of integers that are no constant."""
        if rank and scale.size > 1:
            scale, zero = (None if p is None else numbers.spread(p, (1,) * rank, axis, 0) for p in (scale, zero))  # type: ignore[assignment]
        source = self.put("Cast", [name], f"{output}_cast", to=onnx.TensorProto.FLOAT)
        if zero is not None and np.any(zero.astype(np.float64)):
            source = self.put("Sub", [source, self.number(f"{output}_zero", zero.astype(np.float32))], f"{output}_moved")
        return self.put("Mul", [source, self.number(f"{output}_scale", scale)], output)

    def emit(self, node: onnx.NodeProto, op: str, inputs: list[str], scale: int) -> None:
        """A plain operator in place of `node`, held in the range that the inputs `scale` and the next one stand for."""
        kept = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in FOREIGN}
        output = node.output[0]
        self.nodes.append(helper.make_node(op, inputs, [f"{output}_unbounded"], node.name or output, **kept))
        self.quantised(f"{output}_unbounded", output, self.constant(node, scale), self.constant(node, scale + 1), np.dtype(np.uint8))

    def quantised(self, name: str, output: str, scale: np.ndarray | None, zero: np.ndarray | None, kind: np.dtype) -> None:
        """What stands for the integers of a tensor: its numbers in their range where nothing asks for more, else unrounded integers."""
        kind = kind if zero is None else zero.dtype
        if self.stays_real(output):
            self.real.add(output)
            bounds = numbers.limits(scale, zero, kind)
            if bounds is None:
                self.put("Identity", [name], output)
            else:
                self.bound(name, output, bounds)
            return
        if scale is None or scale.size != 1:
            raise ModelError(f"the quantised tensor {output!r} is used as integers; only one scale for all of it is supported")
        name = self.put("Div", [name, self.number(f"{output}_scale", scale.reshape(()))], f"{output}_ratio")
        if zero is not None and np.any(zero.astype(np.float64)):
            name = self.put("Add", [name, self.number(f"{output}_zero", zero.astype(np.float32).reshape(()))], f"{output}_moved")
        low, high = numbers.limits_of(kind)
        self.bound(name, output, (np.asarray(low, np.float32), np.asarray(high, np.float32)))

    def bound(self, name: str, output: str, bounds: tuple[np.ndarray, np.ndarray]) -> None:
        low, high = (self.number(f"{output}_{side}", b) for side, b in zip(("low", "high"), bounds, strict=True))
        self.put("Clip", [name, low, high], output)

    def stays_real(self, name: str) -> bool:
        """Whether all that reads a quantised tensor makes numbers of it, moves its values, or only ranks them."""
        waiting, seen = [name], {name}
        while waiting:
            tensor = waiting.pop()
            if tensor in self.results:
                return False
            for node in self.readers.get(tensor, ()):
                if (node.op_type in MOVING and node.input[0] == tensor) or node.op_type == "Concat":
                    waiting += [o for o in node.output if o not in seen]
                    seen.update(node.output)
                elif node.op_type not in TAKES_QUANTISED and node.op_type not in RANKING:
                    return False
        return True
