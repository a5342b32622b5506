"""The constants of an ONNX graph, read when they are asked for, and what follows from them without arithmetic."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from banscan.errors import ModelError

SINGLE = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def _cast(node: onnx.NodeProto, value: np.ndarray) -> np.ndarray:
    to = next(a.i for a in node.attribute if a.name == "to")
    return value.astype(helper.tensor_dtype_to_np_dtype(to))


def _axes(node: onnx.NodeProto, given: list[np.ndarray]) -> tuple[int, ...] | None:
    axes = given[0].ravel().tolist() if given else next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    return None if axes is None else tuple(int(a) for a in axes)


# operators that only move values: node, value, the other inputs → result
MOVES: dict[str, Callable[..., np.ndarray]] = {
    "Identity": lambda node, value: value,
    "Cast": _cast,
    "Transpose": lambda node, value: np.transpose(value, next((list(a.ints) for a in node.attribute if a.name == "perm"), None)),
    "Reshape": lambda node, value, sizes: value.reshape([value.shape[i] if s == 0 else int(s) for i, s in enumerate(sizes.ravel())]),
    "Squeeze": lambda node, value, *axes: np.squeeze(value, _axes(node, list(axes))),
    "Unsqueeze": lambda node, value, *axes: np.expand_dims(value, _axes(node, list(axes)) or ()),
}


class Constants:
    """Of a graph, and of those around it; `made` holds what was computed from others."""

    def __init__(self, graph: onnx.GraphProto, outside: "Constants | None") -> None:
        self.outside = outside
        self.made: dict[str, np.ndarray] = {}
        self.tensors = {t.name: t for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute:
                held = node.attribute[0]
                if held.name == "value":
                    self.tensors[node.output[0]] = held.t
                elif held.name in SINGLE:
                    self.made[node.output[0]] = np.array(helper.get_attribute_value(held), SINGLE[held.name])

    def value(self, name: str) -> np.ndarray | None:
        """The constant of this name, None where there is none.

        Raises:
            ModelError: it has fewer values than its shape.
        """
        if name in self.made:
            return self.made[name]
        if name not in self.tensors:
            return None if self.outside is None else self.outside.value(name)
        try:
            found: np.ndarray = numpy_helper.to_array(self.tensors[name])
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"the weight {name!r} has fewer values than its shape; the file is damaged") from error
        return found

    def follow(self, node: onnx.NodeProto, wanted: bool) -> bool:
        """Computes a node that moves the values of a constant, where its result is `wanted`; whether it did."""
        if not wanted or node.op_type not in MOVES or not node.input:
            return False
        given = [self.value(i) for i in node.input if i]
        if any(g is None for g in given):
            return False
        try:
            self.made[node.output[0]] = MOVES[node.op_type](node, *given)
        except (ValueError, TypeError, IndexError, KeyError, StopIteration) as error:
            raise ModelError(f"operator {node.op_type} ({node.name or node.output[0]}): it does not fit its constant") from error
        return True
