"""Where the neurons of a traced graph are: the tensors that its layers read, found by data flow.

What a convolution, a linear layer or a norm reads are neurons to it, whatever stands between them and the layer that made them: channels
behind ReLU, GELU, SiLU or a clip, hidden units of a transformer's MLP, the columns of its heads that feed the projection, what a norm
leaves, the residual stream in front of it.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx

from banscan.importers import attribute_named

aten = torch.ops.aten

CONVS = frozenset(
    {
        aten.conv1d.default,
        aten.conv2d.default,
        aten.conv3d.default,
        aten.conv1d.padding,
        aten.conv2d.padding,
        aten.conv3d.padding,
        aten.conv_transpose1d.default,
        aten.conv_transpose2d.input,
        aten.conv_transpose3d.input,
        aten.convolution.default,
    }
)
# what multiplies by weights, and what only rescales
WEIGHTED = CONVS | {aten.linear.default}
NORMS = frozenset({aten.batch_norm.default, aten.group_norm.default, aten.instance_norm.default})


@dataclass(frozen=True)
class Tap:
    """A tensor of neurons.

    Attributes:
        node: its name in the graph.
        axis: of its neurons, of which there are `channels`.
        behind: the share of the network's multiplications that come after it.
    """

    node: str
    axis: int
    channels: int
    behind: float


def taps(graph: fx.Graph) -> tuple[Tap, ...]:
    """All tensors of neurons, in the order in which they are computed; what no weights have been in front of is an image still."""
    nodes = list(graph.nodes)
    weighted: set[fx.Node] = set()
    axes: dict[fx.Node, int] = {}
    for node in nodes:
        if node.op != "call_function":
            continue
        source = node.args[0] if node.args else None
        axis = _axis(node)
        if axis is not None and source in weighted:
            axes.setdefault(cast(fx.Node, source), axis)
        if node.target in WEIGHTED or any(i in weighted for i in node.all_input_nodes):
            weighted.add(node)
    costs = {node: _multiplications(node) for node in nodes}
    total = max(1, sum(costs.values()))
    found, left = [], total
    for node in nodes:
        left -= costs[node]
        if node in axes:
            found.append(Tap(node.name, axes[node], int(node.meta["val"].shape[axes[node]]), left / total))
    return tuple(found)


# multiplications of a pass of one image from where on it is dear: networks of a quarter of their width for 32 x 32 pixels take less, for
# 224 x 224 more, a MobileNetV2 of full width four times as many, a ResNet50 sixty times
COSTLY = 70_000_000


def costly(graph: fx.Graph) -> bool:
    """Whether a pass of one image takes COSTLY multiplications or more."""
    return sum(map(_multiplications, graph.nodes)) >= COSTLY


def behind(graph: fx.Graph, node: str) -> float:
    """The share of the network's multiplications that come after a node."""
    nodes = list(graph.nodes)
    costs = [_multiplications(n) for n in nodes]
    place = next(i for i, n in enumerate(nodes) if n.name == node)
    return sum(costs[place + 1 :]) / max(1, sum(costs))


def multiplications(graph: fx.Graph) -> int:
    """Of all layers with weights, for one image."""
    return sum(_multiplications(n) for n in graph.nodes)


def _axis(node: fx.Node) -> int | None:
    """The axis of neurons in what a layer reads; None for what is no layer."""
    value = getattr(node.args[0], "meta", {}).get("val") if node.args else None
    if not isinstance(value, torch.Tensor):
        return None
    if node.target in CONVS or node.target in NORMS:
        axis = 1
    elif node.target is aten.linear.default or (node.target is aten.layer_norm.default and len(cast(list[Any], node.args[1])) == 1):
        axis = value.dim() - 1
    else:
        return None
    return axis if value.dim() > axis and isinstance(value.shape[axis], int) else None


def _multiplications(node: fx.Node) -> int:
    """Of a layer with weights, for one image."""
    if node.op != "call_function" or node.target not in WEIGHTED:
        return 0
    weight = cast(fx.Node, node.args[1]).meta["val"].shape
    # every value of the result, or of what is spread out, takes one row of the weights
    rows = node.args[0] if "transpose" in str(node.target) else node
    shape = cast(fx.Node, rows).meta["val"].shape
    return math.prod(size for size in shape if isinstance(size, int)) * math.prod(int(size) for size in weight[1:])


def weights_of(module: fx.GraphModule, layer: fx.Node) -> torch.Tensor | None:
    """The weights of each neuron that a layer makes, [C] or [C, ...]; None where they are no constant with these in front."""
    turned = layer.target is aten.convolution.default or "transpose" in str(layer.target)
    known = (layer.target in WEIGHTED and not turned) or layer.target is aten.batch_norm.default
    read = layer.args[1] if known else None
    return attribute_named(module, str(read.target)) if isinstance(read, fx.Node) and read.op == "get_attr" else None


def origin(node: fx.Node, axis: int) -> fx.Node | None:
    """What a tensor of neurons is computed from, neuron by neuron: the layer in front of its activation; None where that is itself."""
    first = _origin(node, {})
    if first is node:
        return None
    shape, own = first.meta["val"].shape, node.meta["val"].shape
    return first if len(shape) == len(own) and shape[axis] == own[axis] else None


def _origin(node: fx.Node, known: dict[fx.Node, fx.Node]) -> fx.Node:
    """Behind which everything that leads to a node comes from one tensor, by operators without weights."""
    if node not in known:
        sources = [i for i in node.all_input_nodes if i.op == "call_function" and isinstance(i.meta.get("val"), torch.Tensor)]
        first = {_origin(i, known) for i in sources}
        ends = node.target in WEIGHTED or node.target in NORMS or node.target is aten.layer_norm.default
        known[node] = node if ends or len(first) != 1 else first.pop()
    return known[node]
