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
# the opset from which on a Softmax is over one axis
SINCE = 13
# attributes of the quantised operators that the plain ones do not have
FOREIGN = frozenset({"channels_last", "opset"})
# what moves values and changes none: whole numbers in floats are as good for them as integers
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
# what has the same answer for integers and for whole numbers in floats
RANKING = frozenset({"ArgMax", "ArgMin"})
FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})


@dataclass
class Rewriting:
    """The graph being rewritten: its constants, and the nodes that take the place of the old ones.

    `held` holds the tensors that are integers in the file and whole numbers in floats here, with the file's types; `added` what is a float
    constant now; `changed` the integers that were made of held tensors for operators that need them.
    """

    constants: Constants
    held: dict[str, int]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    added: dict[str, np.ndarray] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

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
        if value is not None:
            return self.number(f"{node.input[at]}_float", numbers.dequantised(value, scale, zero, axis))
        if scale.size > 1:
            raise ModelError(f"operator {node.op_type} ({node.name}): several scales of what is no constant are not supported")
        return self.dequantised(list(node.input[at : at + 3]), f"{node.output[0]}_{at}")

    def dequantised(self, inputs: list[str], output: str) -> str:
        """The numbers that integers stand for which are no constant: these, their scale and their zero point."""
        return self.put("DequantizeLinear", inputs, output)

    def emit(self, node: onnx.NodeProto, op: str, inputs: list[str], scale: int) -> None:
        """A plain operator in place of `node`, and its result rounded to integers by the scale at the input `scale` and what follows it."""
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if given.get("channels_last") or given.get("opset", SINCE) < SINCE:
            raise ModelError(f"operator {node.op_type} ({node.name}): channels_last, or the rules of opset 12, are not supported")
        kept = {name: value for name, value in given.items() if name not in FOREIGN}
        output = node.output[0]
        self.nodes.append(helper.make_node(op, inputs, [f"{output}_unrounded"], node.name or output, **kept))
        step, zero = self.constant(node, scale), self.constant(node, scale + 1)
        if step is None or step.size > 1:
            raise ModelError(f"operator {node.op_type} ({node.name}): a scale of its result that is computed, or several, is not supported")
        check_scale(node, step)
        self.put("QuantizeLinear", [f"{output}_unrounded", *node.input[scale : scale + 2]], output)
        self.hold(output, np.dtype(np.uint8) if zero is None else zero.dtype)

    def hold(self, name: str, kind: np.dtype) -> None:
        """Keeps in mind that a tensor is of integers in the file."""
        self.held[name] = helper.np_dtype_to_tensor_dtype(kind)

    def plain(self, node: onnx.NodeProto) -> None:
        """A node that stays as it is; where it computes with integers, it gets integers, since their arithmetic wraps around."""
        held = [i for i in node.input if i in self.held]
        if node.op_type in MOVING and held:
            kinds = {self.held[i] for i in held}
            self.held.update(dict.fromkeys(node.output[:1] if node.op_type == "MaxPool" else node.output, kinds.pop()))
        elif node.op_type not in RANKING and not (node.op_type == "Cast" and _to(node) in FLOATS):
            for i, name in enumerate(node.input):
                if name in held:
                    node.input[i] = self.integers(name)
        self.nodes.append(node)

    def integers(self, name: str) -> str:
        """A held tensor in the file's own type."""
        made = f"{name}_integers"
        if made not in self.changed:
            self.changed.add(made)
            self.put("Cast", [name], made, to=self.held[name])
        return made


def check_scale(node: onnx.NodeProto, scale: np.ndarray) -> None:
    """Raises ModelError unless every step is above 0: there is no other rounding."""
    if not bool((np.isfinite(scale) & (scale > 0)).all()):
        raise ModelError(f"operator {node.op_type} ({node.name}): a scale that is not above 0 is not supported")


def _to(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "to"), 0)
