"""The layers of neurons: operators with weights, each with the activation behind it."""

from typing import Any

import torch
from torch import fx

from banscan.importers.model import Neuron
from banscan.importers.normal.constants import attribute

aten = torch.ops.aten

KINDS: dict[Any, str] = {
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), "conv"),
    aten.linear.default: "linear",
    aten.batch_norm.default: "norm",
}


def find(module: fx.GraphModule) -> tuple[Neuron, ...]:
    """The layers whose weights, or running statistics, are constants of the graph, in execution order."""
    neurons = []
    for node in module.graph.nodes:
        kind = KINDS.get(node.target) if node.op == "call_function" else None
        if kind is None or attribute(module, node.args[1] if kind != "norm" else node.args[3]) is None:
            continue
        axis = -1 if kind == "linear" else 1
        users = list(node.users)
        relu = len(users) == 1 and users[0].op == "call_function" and users[0].target in (aten.relu.default, aten.relu_.default)
        neurons.append(Neuron(node.name, kind, int(node.meta["val"].shape[axis]), axis, "relu" if relu else None))
    return tuple(neurons)
