"""Constants of a traced graph: read off its nodes, and added."""

from typing import Any, cast

from torch import Tensor, fx

from banscan.importers.model import attribute_named


def attribute(module: fx.GraphModule, node: Any) -> Tensor | None:
    """The constant that a get_attr node stands for, or None for anything else."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value: Any = attribute_named(module, cast(str, node.target))
    return value if isinstance(value, Tensor) else None


def scalar(module: fx.GraphModule, value: object) -> float | None:
    """The value of an argument that is a number or a constant of one element; None for any other."""
    if isinstance(value, int | float):
        return float(value)
    held = attribute(module, value)
    return float(held) if held is not None and held.numel() == 1 else None


def constant(module: fx.GraphModule, before: fx.Node, value: Tensor, name: str) -> fx.Node:
    """The node of a new constant, in front of another; it is registered as `folded_` and the name."""
    name = "folded_" + name.replace(".", "_")
    module.register_buffer(name, value.detach().clone().contiguous())
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta["val"] = value
    return node
