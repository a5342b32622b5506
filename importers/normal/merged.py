"""Linear layers on rows of several images each, written as layers on the tensor that these rows were made of.

PyTorch's attention flattens [tokens, N, values] to [tokens * N, values] before its last layer; nothing then tells which rows are whose.
A layer on the last axis is the same before the rows are merged as after.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, fx

aten = torch.ops.aten

MERGING = frozenset([aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.flatten.using_ints])
# value by value
ALIKE = frozenset(
    getattr(aten, name).default
    for name in ["relu", "gelu", "silu", "hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "leaky_relu", "elu", "mish", "neg"]
)


def split(module: fx.GraphModule) -> None:
    """Moves what merges rows of several images behind the layers that read it."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and (node.target is aten.linear.default or node.target in ALIKE):
            merging = cast(fx.Node, node.args[0])
            sizes = _unmerged(merging)
            if sizes is not None:
                _swap(module, node, cast(fx.Node, merging.args[0]), sizes)
    module.graph.eliminate_dead_code()


def _unmerged(node: fx.Node) -> list[int] | None:
    """The sizes of what a node reads, its last axes joined as it does, where it makes several rows of an image; -1 for the free one."""
    if node.target not in MERGING:
        return None
    before, after = (cast(fx.Node, n).meta.get("val") for n in (node.args[0], node))
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return None
    rows, rest = after.shape[0], list(after.shape[1:])
    if not rest or not isinstance(rows, torch.SymInt) or rows.node.expr.is_Symbol or not all(isinstance(size, int) for size in rest):
        return None
    last = next((i for i in range(before.dim()) if _joined(before.shape[i:]) == rest[-1]), None)
    sizes = None if last is None else [*before.shape[:last], rest[-1]]
    if sizes is None or len(rest) > 1 or sum(not isinstance(size, int) for size in sizes) != 1:
        return None
    return [size if isinstance(size, int) else -1 for size in sizes]


def _joined(sizes: torch.Size) -> int | None:
    return math.prod(sizes) if all(isinstance(size, int) for size in sizes) else None


def _swap(module: fx.GraphModule, node: fx.Node, source: fx.Node, sizes: list[int]) -> None:
    values = source.meta["val"]
    width = node.meta["val"].shape[-1]
    free = next(size for size in values.shape if not isinstance(size, int))
    known = [free if size == -1 else size for size in sizes[:-1]]
    with module.graph.inserting_before(node):
        if len(sizes) != values.dim():
            source = module.graph.call_function(aten.reshape.default, (source, sizes))
            source.meta["val"] = values.new_empty((*known, sizes[-1]))
        layer = module.graph.call_function(cast(Any, node.target), (source, *node.args[1:]), node.kwargs)
        layer.meta["val"] = values.new_empty((*known, width))
        merged = module.graph.call_function(aten.reshape.default, (layer, [-1, width]))
        merged.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(merged)
    module.graph.erase_node(node)
