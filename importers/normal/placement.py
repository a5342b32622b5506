"""Moves a traced graph to another device, with what the exporter wrote down about devices inside it."""

from typing import cast

import torch
from torch import fx

from banscan.importers.normal.graph import TracedModel


def place(model: TracedModel, device: torch.device) -> None:
    """Moves the constants of a graph, and the tensors that its nodes make, to a device; in place."""
    module = model.module
    module.to(device)
    for node in cast(list[fx.Node], list(module.graph.nodes)):
        if node.kwargs.get("device") is not None:
            node.kwargs = {**node.kwargs, "device": device}
    module.recompile()
