"""Classifiers that compute one linear layer in a roundabout way: their features are those of the one layer."""

from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.importers.model import Folding, Part
from banscan.importers.normal.constants import attribute, constant
from banscan.importers.normal.functions import merged
from banscan.importers.normal.penultimate import Anatomy, shape

aten = torch.ops.aten


def simplify(module: fx.GraphModule, foldings: dict[str, Folding], anatomy: Anatomy) -> bool:
    """Makes one step towards one linear layer on features without a place in the image; whether there was one to make."""
    if len(anatomy.classifier) != 1:
        return False
    layer = next(n for n in module.graph.nodes if n.name == anatomy.classifier[0])
    if layer.target is aten.linear.default:
        return _merge(module, foldings, layer)
    return layer.target is aten.conv2d.default and _pool_first(module, layer)


def _merge(module: fx.GraphModule, foldings: dict[str, Folding], last: fx.Node) -> bool:
    """Two linear layers with nothing in between are one (a head of low rank)."""
    first = cast(fx.Node, last.args[0])
    if first.target is not aten.linear.default or len(first.users) != 1:
        return False
    inner, outer = (
        {name: cast(fx.Node, node) for name, node in zip(("weight", "bias"), layer.args[1:], strict=False) if node is not None}
        for layer in (first, last)
    )
    if any(attribute(module, node) is None for node in (*inner.values(), *outer.values())):
        return False
    made = [_folded(module, foldings, last, "weight", (outer["weight"], inner["weight"], None))]
    if "bias" in inner:
        made.append(_folded(module, foldings, last, "bias", (outer["weight"], inner["bias"], outer.get("bias"))))
    elif "bias" in outer:
        made.append(outer["bias"])
    last.args = (first.args[0], *made)
    module.graph.erase_node(first)
    return True


def _folded(module: fx.GraphModule, foldings: dict[str, Folding], layer: fx.Node, what: str, parts: tuple[fx.Node | None, ...]) -> fx.Node:
    there = [p for p in parts if p is not None]
    given = tuple(None if p is None else Part(there.index(p)) for p in parts)
    found = Folding(merged, tuple(str(p.target) for p in there), given)
    node = constant(module, layer, found.compute([cast(Tensor, attribute(module, p)) for p in there]), f"{layer.name}_merged_{what}")
    foldings[str(node.target)] = found
    return node


def _pool_first(module: fx.GraphModule, conv: fx.Node) -> bool:
    """A mean over the whole map behind a 1x1 convolution is one in front of it."""
    weight = attribute(module, conv.args[1])
    x, pool = cast(fx.Node, conv.args[0]), next(iter(conv.users), None)
    if weight is None or pool is None or len(conv.users) != 1 or len(shape(x)) != 4 or tuple(weight.shape[2:]) != (1, 1):
        return False
    stride, padding, _, groups = (
        [*conv.args[3:], *([1, 1], [0, 0], [1, 1], 1)[len(conv.args) - 3 :]] if len(conv.args) > 3 else [1, 0, 1, 1]
    )
    if stride not in (1, [1], [1, 1]) or padding not in (0, [0], [0, 0]) or groups != 1 or not _whole(pool, conv):
        return False
    graph, value = module.graph, x.meta["val"]
    with graph.inserting_before(conv):
        mean = graph.call_function(aten.mean.dim, (x, [2, 3], True))
    mean.meta["val"] = value.new_empty((*value.shape[:2], 1, 1))
    conv.args = (mean, *conv.args[1:])
    conv.meta["val"] = value.new_empty((value.shape[0], weight.shape[0], 1, 1))
    kept = conv
    if len(shape(pool)) == 2:
        with graph.inserting_after(conv):
            kept = graph.call_function(aten.flatten.using_ints, (conv, 1))
        kept.meta["val"] = pool.meta["val"]
    pool.replace_all_uses_with(kept, delete_user_cb=lambda user: user is not kept)
    graph.erase_node(pool)
    return True


def _whole(pool: fx.Node, conv: fx.Node) -> bool:
    """Whether a node is the mean over all of a map."""
    sizes = list(shape(conv)[2:])
    if pool.target is aten.mean.dim:
        return sorted(d % 4 for d in cast(Any, pool.args[1])) == [2, 3] and "dtype" not in pool.kwargs
    if pool.target is aten.adaptive_avg_pool2d.default:
        return pool.args[1] in (1, [1], [1, 1])
    if pool.target is aten.avg_pool2d.default:
        kernel = pool.args[1] if len(cast(Any, pool.args[1])) == 2 else [*cast(Any, pool.args[1])] * 2
        padding = pool.args[3] if len(pool.args) > 3 else [0, 0]
        return kernel == sizes and padding in ([0, 0], [0], 0)
    return False
