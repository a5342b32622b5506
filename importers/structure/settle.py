"""A graph without the logic beside its network: every switch stands as it does on an image without a trigger."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from banscan.importers.structure.forcing import Clean
from banscan.importers.structure.graph import OWN, Graph, copied, set_free
from banscan.importers.structure.watch import Mark, Marks, twins

# pairs of tensors that are compared value by value
MOST = 64


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


def restored(given: dict[str, Any] | None) -> Settled | None:
    """What `plain` wrote."""
    if given is None:
        return None
    numbers = {str(k): Fixed(float(value), int(axes), str(dtype)) for k, (value, axes, dtype) in given["numbers"].items()}
    return Settled({str(a): str(b) for a, b in given["tensors"].items()}, numbers)


def fixed(value: np.ndarray) -> Fixed | None:
    """A tensor as one number, where it holds no other."""
    if not value.size or value.dtype.kind not in "biuf" or not (value == value.reshape(-1)[0]).all():
        return None
    return Fixed(float(value.reshape(-1)[0]), value.ndim, value.dtype.name)


def with_numbers(graph: Graph, numbers: dict[str, Fixed]) -> Graph:
    """A copy with numbers in the place of tensors."""
    copy = copied(graph)
    apply(copy.model, Settled(numbers=numbers))
    return copy


def same_as_before(clean: Clean, found: Marks, seeds: set[str]) -> dict[str, str]:
    """Where one of these constant tensors meets what differs between images: the tensor before it that the result is equal to.

    So it is where the graph chooses by a switch, adds what is nothing, or multiplies by one; whatever the operator.
    """
    order = {o: k for k, step in enumerate(clean.flow.steps) for o in step.makes}
    dirty = set(seeds)
    pairs: list[tuple[str, str]] = []
    for step in clean.flow.steps:
        if not any(i in dirty for i in step.reads):
            continue
        for made in step.makes:
            if made not in clean.flow.depends or made in clean.constant:
                dirty.add(made)
                continue
            if made not in found:
                continue
            like = [o for o, mark in found.items() if o not in clean.constant and order[o] < order[made] and _near(mark, found[made])]
            pairs += [(made, o) for o in sorted(like, key=order.__getitem__, reverse=True)][: MOST - len(pairs)]
    return _straight(twins(clean.graph, pairs, clean.images))


def _near(one: Mark, other: Mark) -> bool:
    return one.sizes == other.sizes and bool(np.allclose(np.array(one.sums), np.array(other.sums), rtol=1e-4, atol=1e-4))


def _straight(tensors: dict[str, str]) -> dict[str, str]:
    """Each tensor with the last one of those that stand for one another, which come earlier each."""
    result = {}
    for name, other in tensors.items():
        while other in tensors:
            other = tensors[other]
        result[name] = other
    return result


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
