"""Constants that follow from others: computed once, whatever they pass through, before anything looks at the graph."""

import math
import operator
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx

from banscan.errors import ModelError
from banscan.importers.model import Folding, Part
from banscan.importers.normal.constants import attribute, constant

aten = torch.ops.aten

# values that a constant may have beyond those that it is made of, and all of them together: a few bytes of a file may ask for terabytes
LARGEST = 1 << 26
MOST = 1 << 27
# operators that cut a tensor into several along an axis
CUTS = frozenset({"split", "split_with_sizes", "unsafe_split", "chunk", "unsafe_chunk", "tensor_split"})


def fold_constants(module: fx.GraphModule, foldings: dict[str, Folding]) -> None:
    """Computes once what depends on no image: transposed weights, scaled biases, tables.

    Raises:
        ModelError: a constant, or all of them together, larger than any classifier needs; nothing of that size is computed.
    """
    total = 0
    for node in list(module.graph.nodes):
        if not _follows(module, node):
            continue
        inputs = node.all_input_nodes
        values = [cast(Tensor, attribute(module, i)) for i in inputs]
        total += _checked(node, sum(v.numel() for v in values))
        if total > MOST:
            raise ModelError(f"its constants compute to more than {MOST:,} values; the file is damaged or hostile")
        args, kwargs = _with_parts(node, inputs)
        found = Folding(node.target, tuple(str(i.target) for i in inputs), args, kwargs)
        result = found.compute(values)
        if isinstance(result, Tensor):
            _replace(module, foldings, node, result, found)
        elif isinstance(result, list | tuple):
            for user in list(node.users):
                if user.target is operator.getitem and isinstance(result[user.args[1]], Tensor):
                    _replace(module, foldings, user, result[user.args[1]], _cut(node, found, cast(Any, result), user.args[1]))
            if not node.users:
                module.graph.erase_node(node)


def _follows(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node depends on constants only, and always gives the same."""
    target: Any = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return False
    if target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags:
        return False
    return all(attribute(module, i) is not None for i in node.all_input_nodes) and any(True for _ in _tensors(node.meta.get("val")))


def _replace(module: fx.GraphModule, foldings: dict[str, Folding], node: fx.Node, result: Tensor, found: Folding | None) -> None:
    folded = constant(module, node, result, node.name)
    if found is not None and found.parts:
        foldings[str(folded.target)] = found
    node.replace_all_uses_with(folded)
    module.graph.erase_node(node)


def _cut(node: fx.Node, found: Folding, pieces: list[Tensor], index: int) -> Folding | None:
    """How one piece of a constant that was cut follows from it; None where that has no operator of its own."""
    name = str(getattr(node.target, "__name__", "")).partition(".")[0]
    if len(found.parts) != 1 or found.args[:1] != (Part(0),):
        return None
    index = index % len(pieces)
    if name == "unbind":
        return Folding(aten.select.int, found.parts, (Part(0), found.args[1] if len(found.args) > 1 else 0, index))
    if name not in CUTS:
        return None
    axis = found.args[2] if len(found.args) > 2 else found.kwargs.get("dim", 0)
    start = sum(p.shape[axis] for p in pieces[:index])
    return Folding(aten.slice.Tensor, found.parts, (Part(0), axis, start, start + pieces[index].shape[axis]))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _checked(node: fx.Node, given: int) -> int:
    """How many values a constant has more than what it is computed from; ModelError where these are too many."""
    more = sum(math.prod(int(s) for s in value.shape) for value in _tensors(node.meta["val"])) - given
    if more > LARGEST:
        raise ModelError(f"{node.name} is a constant of {more + given:,} values that the file only describes; it is damaged or hostile")
    return max(0, more)


def _with_parts(node: fx.Node, inputs: list[fx.Node]) -> Any:
    """Arguments with a `Part` for every constant; fx has lists of its own, in which only its nodes can stand."""

    def part(value: Any) -> Any:
        return Part(inputs.index(value)) if isinstance(value, fx.Node) else value

    return pytree.tree_map(part, (tuple(node.args), dict(node.kwargs)))
