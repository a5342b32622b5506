"""Constants that follow from others: computed once, whatever they pass through, before anything looks at the graph."""

import math
import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.errors import ModelError
from banscan.importers.model import Folding
from banscan.importers.normal.constants import attribute, constant

# values that a constant may have beyond those that it is made of, and all of them together: a few bytes of a file may ask for terabytes
LARGEST = 1 << 26
MOST = 1 << 27


def fold_constants(module: fx.GraphModule, foldings: dict[str, Folding]) -> None:
    """Computes once what depends on no image: transposed weights, scaled biases, tables.

    Raises:
        ModelError: a constant, or all of them together, larger than any classifier needs; nothing of that size is computed.
    """
    lists: dict[fx.Node, tuple[Callable[..., Any], list[fx.Node]]] = {}
    total = 0
    for node in list(module.graph.nodes):
        found = _followed(module, node, lists)
        if found is None:
            continue
        compute, inputs = found
        values = [cast(Tensor, attribute(module, i)) for i in inputs]
        total += _checked(node, sum(v.numel() for v in values))
        if total > MOST:
            raise ModelError(f"its constants compute to more than {MOST:,} values; the file is damaged or hostile")
        if isinstance(node.meta.get("val"), list | tuple):
            lists[node] = found
            continue
        result = compute(*values)
        if isinstance(result, Tensor):
            folded = constant(module, node, result, node.name)
            if inputs:
                foldings[str(folded.target)] = Folding(compute, tuple(str(i.target) for i in inputs))
            node.replace_all_uses_with(folded)
            module.graph.erase_node(node)
    for node in reversed(lists):
        if not node.users:
            module.graph.erase_node(node)


def _followed(
    module: fx.GraphModule, node: fx.Node, lists: dict[fx.Node, tuple[Callable[..., Any], list[fx.Node]]]
) -> tuple[Callable[..., Any], list[fx.Node]] | None:
    """How a node follows from constants, and from which; None where it does not."""
    if node.op != "call_function":
        return None
    if node.target is operator.getitem and node.args[0] in lists:
        compute, inputs = lists[cast(fx.Node, node.args[0])]
        return partial(_item, compute, cast(int, node.args[1])), inputs
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags:
        return None
    inputs = node.all_input_nodes
    if not all(attribute(module, i) is not None for i in inputs) or not list(_tensors(node.meta.get("val"))):
        return None
    return _call(target, node.args, node.kwargs, inputs), inputs


def _item(compute: Callable[..., Any], index: int, *values: Tensor) -> Any:
    return compute(*values)[index]


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


def _call(function: Callable[..., Any], args: Any, kwargs: Any, inputs: list[fx.Node]) -> Callable[..., Any]:
    def compute(*values: Tensor) -> Any:
        given = dict(zip(inputs, values, strict=True))
        placed = fx.map_arg((args, kwargs), lambda n: given[n])
        return function(*placed[0], **placed[1])

    return compute
