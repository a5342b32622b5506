"""Zero points that are added to whole numbers and taken off again: the same numbers without both."""

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

# whole numbers up to here are exact in float32, their sums too
LARGEST = 1 << 22


def cancel(module: fx.GraphModule) -> None:
    """Takes z off what has it added, where nothing is lost by leaving out both: of numbers rounded within bounds."""
    for node in list(module.graph.nodes):
        added, zero = _operands(node, aten.sub.Tensor)
        rounded, same = _operands(added, aten.add.Tensor)
        if _whole(zero) and zero == same and _bounded(rounded):
            node.replace_all_uses_with(rounded)
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()


def _operands(node: Any, target: Any) -> tuple[Any, Any]:
    """Of this operator, None twice for another node."""
    fits = isinstance(node, fx.Node) and node.target is target and not node.kwargs
    return tuple(node.args) if fits else (None, None)


def _whole(value: Any) -> bool:
    return isinstance(value, int | float) and float(value).is_integer() and abs(value) <= LARGEST


def _bounded(node: Any) -> bool:
    """Whether a node is a rounding within bounds."""
    source: Any = node.args[0] if isinstance(node, fx.Node) and node.target is aten.round.default else None
    clamped = isinstance(source, fx.Node) and source.target is aten.clamp.default and len(source.args) == 3
    return clamped and all(_whole(bound) for bound in source.args[1:])
