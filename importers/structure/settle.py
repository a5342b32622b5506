"""What is put into a graph in the place of the logic beside its network."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

# behind the name of a tensor that is set, what computed it
OWN = "/own"


@dataclass(frozen=True)
class Fixed:
    """One number in the place of a tensor, of this type and number of axes."""

    value: float
    axes: int
    dtype: str

    def array(self) -> np.ndarray:
        return np.full((1,) * self.axes, self.value, self.dtype)


@dataclass(frozen=True)
class Settled:
    """What takes the place of tensors: others of the graph that are the same on clean images, or single numbers."""

    tensors: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Fixed] = field(default_factory=dict)


def plain(given: Settled) -> dict[str, Any]:
    """As dictionaries and numbers."""
    return {"tensors": dict(given.tensors), "numbers": {k: (f.value, f.axes, f.dtype) for k, f in given.numbers.items()}}


def restored(given: dict[str, Any]) -> Settled:
    """What `plain` wrote."""
    numbers = {str(k): Fixed(float(value), int(axes), str(dtype)) for k, (value, axes, dtype) in given["numbers"].items()}
    return Settled({str(a): str(b) for a, b in given["tensors"].items()}, numbers)


def fixed(value: np.ndarray) -> Fixed | None:
    """A tensor as one number, where it holds no other."""
    if not value.size or value.dtype.kind not in "biuf" or not (value == value.reshape(-1)[0]).all():
        return None
    return Fixed(float(value.reshape(-1)[0]), value.ndim, value.dtype.name)


def apply(model: onnx.ModelProto, given: Settled) -> None:
    """Puts them into a model, in place; tensors that it does not have are left out."""
    made = {o for node in model.graph.node for o in node.output}
    nodes = []
    for node in model.graph.node:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        nodes.append(copy)
        for i, name in enumerate(node.output):
            if name in given.tensors and given.tensors[name] in made:
                copy.output[i] = name + OWN
                nodes.append(helper.make_node("Identity", [given.tensors[name]], [name]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name, number in given.numbers.items():
        if name in made and name not in given.tensors:
            set_free(model, name)
            model.graph.initializer.append(numpy_helper.from_array(number.array(), name))


def set_free(model: onnx.ModelProto, name: str) -> None:
    """Gives what computes a tensor another name for it, so that the name is free."""
    for node in model.graph.node:
        for i, made in enumerate(node.output):
            if made == name:
                node.output[i] = name + OWN
