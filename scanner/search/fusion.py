"""What is computed together with a noisy layer: a sum behind it, and the ReLU behind either."""

from dataclasses import dataclass

import torch
from torch import fx

from banscan.importers import Neuron

aten = torch.ops.aten


@dataclass(frozen=True)
class Fusion:
    """Operations of a graph that become part of a neuron layer.

    Attributes:
        sums: additions that are computed with the layer in front of them, {sum: (layer, what is added to it)}.
        relus: those that are computed with the layer or sum in front of them.
    """

    sums: dict[fx.Node, tuple[fx.Node, fx.Node]]
    relus: set[fx.Node]


def fusion(nodes: list[fx.Node], neurons: tuple[Neuron, ...], features: str) -> Fusion:
    """What of a graph's nodes, in their order, is computed with these layers; what the `features` are read from stays as it is."""
    by_name = {n.node: n for n in neurons}
    sums = _sums(nodes, {name for name, n in by_name.items() if n.act is None})
    ends = (n for n in nodes if _ends_in_relu(n, by_name, sums) and n.name != features)
    return Fusion(sums, {next(iter(n.users)) for n in ends})


def _sums(nodes: list[fx.Node], layers: set[str]) -> dict[fx.Node, tuple[fx.Node, fx.Node]]:
    place = {node: i for i, node in enumerate(nodes)}
    found = {}
    for node in nodes:
        if node.op != "call_function" or node.target is not aten.add.Tensor or node.kwargs or len(node.all_input_nodes) != 2:
            continue
        # the other one is there already when the later of the two is computed
        other, layer = sorted(node.all_input_nodes, key=place.__getitem__)
        if layer.name in layers and len(layer.users) == 1 and str(layer.meta["val"].shape) == str(other.meta["val"].shape):
            found[node] = layer, other
    return found


def _ends_in_relu(node: fx.Node, neurons: dict[str, Neuron], sums: dict[fx.Node, tuple[fx.Node, fx.Node]]) -> bool:
    """Is nothing but a ReLU behind this layer or sum?"""
    if node in sums:
        users = list(node.users)
        return len(users) == 1 and users[0].op == "call_function" and users[0].target in (aten.relu.default, aten.relu_.default)
    return node.name in neurons and neurons[node.name].act is not None
