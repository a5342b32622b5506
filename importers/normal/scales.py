"""Scales of an image behind a layer, put in front of it: then its neurons have one unit for all images, and noise is the same for all.

Dynamic quantisation multiplies sums of integers with the scale that they had; a layer is linear, so that it may come first.
"""

from typing import Any, cast

import torch
from torch import fx

from banscan.importers.normal.constants import attribute
from banscan.importers.normal.penultimate import shape

aten = torch.ops.aten

LAYERS = frozenset({aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.linear.default})


def bring_forward(module: fx.GraphModule) -> None:
    """Multiplies the input of a layer without a bias with what its result is multiplied with, where that is one number for each image."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.mul.Tensor:
            continue
        for layer, factor in (node.args[:2], node.args[1::-1]):
            if not _is_layer(module, layer):
                continue
            scale, rest = _parts(module, factor, len(shape(layer)))
            if scale is not None:
                _move(module, node, cast(fx.Node, layer), scale, rest)
                break
    module.graph.eliminate_dead_code()


def _is_layer(module: fx.GraphModule, node: Any) -> bool:
    """Whether a node is a layer of a constant weight and no bias that nothing else reads."""
    if not isinstance(node, fx.Node) or node.target not in LAYERS or len(node.users) > 1:
        return False
    return (len(node.args) < 3 or node.args[2] is None) and attribute(module, node.args[1]) is not None


def _parts(module: fx.GraphModule, factor: Any, rank: int) -> tuple[fx.Node | None, Any]:
    """A factor's number for each image, and the constant that it is multiplied with, which stays behind the layer."""
    rest = None
    if isinstance(factor, fx.Node) and factor.target is aten.mul.Tensor:
        for first, second in (factor.args[:2], factor.args[1::-1]):
            if not isinstance(second, fx.Node) or attribute(module, second) is not None:
                factor, rest = first, second
                break
    fits = not isinstance(rest, fx.Node) or len(shape(rest)) <= rank
    return (factor, rest) if fits and _one_each(factor, rank) else (None, None)


def _one_each(node: Any, rank: int) -> bool:
    sizes = shape(node) if isinstance(node, fx.Node) else ()
    return len(sizes) == rank and not isinstance(sizes[0], int) and all(s == 1 for s in sizes[1:])


def _move(module: fx.GraphModule, node: fx.Node, layer: fx.Node, scale: fx.Node, rest: Any) -> None:
    source = cast(fx.Node, layer.args[0])
    with module.graph.inserting_before(node):
        scaled = module.graph.call_function(aten.mul.Tensor, (source, scale))
        scaled.meta["val"] = source.meta["val"]
        made = module.graph.node_copy(layer, lambda n: scaled if n is source else n)
    made.meta = dict(layer.meta)
    if rest is None:
        node.replace_all_uses_with(made)
        module.graph.erase_node(node)
    else:
        node.args = (made, rest)
    module.graph.erase_node(layer)
