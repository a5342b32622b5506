"""A traced graph cut in two where the noise begins: what is computed once per scan, and what every step of a search computes again."""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.importers import Neuron, TracedModel, attribute_named
from banscan.importers.model import is_batch
from banscan.kernels import noisy_conv, noisy_linear, perturb, units
from banscan.scanner.search import noisy_layers
from banscan.scanner.search.fusion import Fusion, fusion
from banscan.scanner.search.rows import Rows, rows

aten = torch.ops.aten
# what follows the bias among the arguments of aten's convolutions
GEOMETRY = ("stride", "padding", "dilation", "groups")
# what gives its result out twice
NOISY = (perturb, noisy_conv, noisy_linear, noisy_layers.norm)


@dataclass(frozen=True)
class Cut:
    """A graph in two.

    Attributes:
        before: images [N, ...] → the tensors [N, ...] that the noisy part reads.
        behind: (noise of all layers, these tensors) → (logits, features).
        moving: the nodes of the whole graph whose tensors depend on the noise.
    """

    before: fx.GraphModule
    behind: fx.GraphModule
    moving: set[fx.Node]


@dataclass(frozen=True)
class _Halves:
    """Both graphs while they are written.

    Attributes:
        layers: number and neurons of the layers with noise, by the name of their node.
        constants: the tensors that either graph reads, by name.
        noise: the placeholder of the noise, behind.
        front: nodes that the noise does not move, and their copies before.
        known: nodes, and what stands for them behind.
        border: copies before that are read behind, and the placeholders that stand for them there.
        fronted: copies before whose images are elsewhere than on the first axis, and those with them there.
    """

    layers: dict[str, tuple[int, Neuron]]
    stats: tuple[Tensor, ...] | None
    moving: set[fx.Node]
    constants: dict[str, Tensor]
    before: fx.Graph
    behind: fx.Graph
    noise: fx.Node
    front: dict[fx.Node, fx.Node] = field(default_factory=dict)
    known: dict[fx.Node, fx.Node] = field(default_factory=dict)
    border: dict[fx.Node, fx.Node] = field(default_factory=dict)
    fronted: dict[fx.Node, fx.Node] = field(default_factory=dict)


def cut(model: TracedModel, neurons: tuple[Neuron, ...], stats: tuple[Tensor, ...] | None) -> Cut:
    """Cuts a model where the noise on these layers begins, normalised with `stats` [2, C] of each layer or by Eq. 3 without.

    Where a layer reads nothing that moves, its convolution or product is in front, and only the noise on it behind.
    """
    nodes = list(model.module.graph.nodes)
    fused = fusion(nodes, neurons, model.features)
    halves = _halves(model, neurons, stats)
    for node in nodes:
        if node.op != "output" and node not in halves.moving:
            halves.front[node] = halves.before.node_copy(node, lambda n: halves.front[n])
    inside = {layer for layer, _ in fused.sums.values()}
    for node in nodes:
        if node in halves.moving and node not in inside:
            halves.known[node] = _moved(halves, fused, node)
    logits = next(n for n in reversed(nodes) if n.op == "output").args[0]
    features = next(n for n in nodes if n.name == model.features)
    halves.behind.output((halves.known[logits], halves.known[features]))
    _two_readers(halves.behind)
    halves.before.output(tuple(halves.border))
    halves.before.eliminate_dead_code()
    return Cut(_module(halves.constants, halves.before), _module(halves.constants, halves.behind), halves.moving)


def _two_readers(behind: fx.Graph) -> None:
    """All readers of a layer but the first take its result as it is given out a second time, so that the layer itself adds two gradients.

    Both are one tensor in memory, in which nobody writes: graphs of models have no operators that work in place.
    """
    for layer in [node for node in behind.nodes if node.target in NOISY]:
        (result,) = layer.users
        others = list(result.users)[1:]
        if others:
            with behind.inserting_after(result):
                again = behind.call_function(operator.getitem, (layer, 1))
            for reader in others:
                reader.replace_input_with(result, again)


def _halves(model: TracedModel, neurons: tuple[Neuron, ...], stats: tuple[Tensor, ...] | None) -> _Halves:
    nodes = list(model.module.graph.nodes)
    layers = {n.node: (i, n) for i, n in enumerate(neurons)}
    constants = {str(n.target): attribute_named(model.module, str(n.target)) for n in nodes if n.op == "get_attr"}
    before, behind = fx.Graph(), fx.Graph()
    return _Halves(layers, stats, _moving(nodes, set(layers)), constants, before, behind, behind.placeholder("noise"))


def _module(constants: dict[str, Tensor], graph: fx.Graph) -> fx.GraphModule:
    return fx.GraphModule({str(n.target): constants[str(n.target)] for n in graph.nodes if n.op == "get_attr"}, graph)


def _moving(nodes: list[fx.Node], layers: set[str]) -> set[fx.Node]:
    """The tensors that depend on the noise; sizes do not."""
    moving: set[fx.Node] = set()
    for node in nodes:
        if node.name in layers or (node.op == "call_function" and _is_data(node) and any(i in moving for i in node.all_input_nodes)):
            moving.add(node)
    return moving


def _is_data(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor | tuple | list) or node.op == "placeholder"


def _moved(halves: _Halves, fused: Fusion, node: fx.Node) -> fx.Node:
    """What stands behind for a node that the noise moves."""
    act = "relu" if fused.relus & set(node.users) else None
    if node.name in halves.layers:
        return _noisy(halves, node, act, None)
    if node in fused.sums:
        return _noisy(halves, fused.sums[node][0], act, fused.sums[node][1])
    if node in fused.relus:
        return halves.known[node.all_input_nodes[0]]
    return halves.behind.node_copy(node, lambda n: _seen(halves, n))


def _noisy(halves: _Halves, node: fx.Node, act: str | None, residual: fx.Node | None) -> fx.Node:
    """A layer with its noise, and what is computed with it."""
    index, neuron = halves.layers[node.name]
    source = cast(fx.Node, node.args[0])
    shared = source not in halves.moving
    place = rows(node) or Rows()
    added = residual and _seen(halves, residual)
    together: dict[str, Any] = {"act": act, "shared": shared, "residual": _called(halves, place.first, added, when=place.axis)}

    def carried(bias: fx.Node | None) -> fx.Node:
        return halves.behind.call_function(noisy_layers.layer_noise, (halves.noise, index, bias), together)

    if neuron.kind == "norm":
        x = _still(halves, source, plain=True) if shared else halves.known[source]
        return _result(halves, noisy_layers.norm, carried(None), x, *_plain(halves, node.args[1:]))
    weight = _weight(halves, node, index)
    bias, *geometry = node.args[2:] or (None,)
    noise = carried(*_plain(halves, (bias,)))
    if shared:
        target = cast(Callable[..., Any], node.target)
        z = halves.before.call_function(target, (halves.front[source], halves.before.get_attr(weight), None, *geometry), node.kwargs)
        still = _called(halves, place.joined, _across(halves, z, place), when=place.each > 1)
        moved = _result(halves, perturb, still, noise, axis=place.channel(neuron.axis))
        return cast(fx.Node, _called(halves, place.back, moved, when=place.axis))
    x = _called(halves, place.first, halves.known[source], when=place.axis)
    given = x, halves.behind.get_attr(weight), noise
    if neuron.kind == "linear":
        return cast(fx.Node, _called(halves, place.back, _result(halves, noisy_linear, *given), when=place.axis))
    return _result(halves, noisy_conv, *given, **dict(zip(GEOMETRY, _plain(halves, geometry), strict=False)))


def _result(halves: _Halves, function: Callable[..., Any], *given: Any, **how: Any) -> fx.Node:
    """What one of NOISY computes, as its first reader takes it."""
    return halves.behind.call_function(operator.getitem, (halves.behind.call_function(function, given, how), 0))


def _called(halves: _Halves, function: Callable[[Tensor], Tensor], value: fx.Node | None, *, when: object) -> Any:
    """What is behind, as one of the functions of `Rows` gives it, where that makes a difference."""
    return halves.behind.call_function(function, (value,)) if when and value is not None else value


def _weight(halves: _Halves, node: fx.Node, index: int) -> str:
    """The name of a layer's weights, in units of the clean deviation in the normalised form."""
    name = str(cast(fx.Node, node.args[1]).target)
    if halves.stats is None:
        return name
    own = f"units_{index}"
    halves.constants[own] = units(halves.constants[name], halves.stats[index])
    return own


def _seen(halves: _Halves, node: fx.Node) -> fx.Node:
    """Any node, as what is behind reads it."""
    return halves.known[node] if node in halves.moving else _still(halves, node, plain=False)


def _plain(halves: _Halves, arguments: Iterable[Any]) -> tuple[Any, ...]:
    """The arguments of a layer without noise, seen from the noisy part."""
    return tuple(fx.map_arg(tuple(arguments), lambda n: _still(halves, n, plain=True)))


def _still(halves: _Halves, node: fx.Node, *, plain: bool) -> fx.Node:
    """A node without noise, seen from the noisy part: a constant, a size, or a tensor once per restart unless `plain`."""
    known, behind = halves.known, halves.behind
    place = rows(node) if _is_data(node) else None
    if node.op == "get_attr" or place is None:
        if node not in known:
            if node.target is aten.sym_size.int and is_batch(node):
                known[node] = behind.call_function(noisy_layers.batch, (halves.noise,))
            else:
                known[node] = behind.node_copy(node, lambda n: _still(halves, n, plain=False))
        return known[node]
    if plain:
        return _whole(halves, _across(halves, halves.front[node], place), place)
    if node not in known:
        known[node] = _whole(
            halves, behind.call_function(noisy_layers.repeated, (_across(halves, halves.front[node], place), halves.noise)), place
        )
    return known[node]


def _whole(halves: _Halves, value: fx.Node, place: Rows) -> fx.Node:
    """A tensor that crossed the border, as the graph has it."""
    joined = _called(halves, place.joined, value, when=place.each > 1)
    return cast(fx.Node, _called(halves, place.back, joined, when=place.axis))


def _across(halves: _Halves, node: fx.Node, place: Rows) -> fx.Node:
    """The placeholder behind of a node before, whose first axis is the images."""
    if place != Rows():
        if node not in halves.fronted:
            halves.fronted[node] = halves.before.call_function(place.apart, (node,))
        node = halves.fronted[node]
    if node not in halves.border:
        with halves.behind.inserting_after(next(reversed([halves.noise, *halves.border.values()]))):
            halves.border[node] = halves.behind.placeholder(f"border_{len(halves.border)}")
    return halves.border[node]
