"""What a training leaves as it is, computed once: the layers in front of the first that is trained."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from banscan.importers import TracedModel
from banscan.importers.model import is_batch
from banscan.scanner.machine.memory import answered_at_once
from banscan.scanner.repair.trainable import Pass, State


@dataclass(frozen=True)
class Front:
    """A graph in two.

    Attributes:
        skipped: the nodes that nothing trained reaches, but those at the border.
        border: those of them that the others read, as nodes with images [N, ...] on their first axis.
    """

    skipped: frozenset[fx.Node]
    border: tuple[fx.Node, ...]


# a tensor [N, ...] for every node of the border
Reached = tuple[Tensor, ...]


def front(model: TracedModel, state: State) -> Front:
    """Where what is trained begins. The border is empty where that is at the image."""
    nodes = list(model.module.graph.nodes)
    trained = {name.rpartition("/")[2] for name in state.values}
    image = next(n for n in nodes if n.op == "placeholder")
    moving: set[fx.Node] = set()
    still: set[fx.Node] = {image}
    for node in nodes:
        if node.name in trained or str(node.target) in trained or moving.intersection(node.all_input_nodes):
            moving.add(node)
        elif still.intersection(node.all_input_nodes):
            still.add(node)
    # sizes follow from the number of images, and are computed again
    sizes = {n for n in still if not isinstance(n.meta.get("val"), Tensor | tuple | list)}
    border = {n for n in still - sizes if moving.intersection(n.users)}
    if border <= {image}:  # the first layer is trained
        return Front(frozenset(), ())
    known = all(is_batch(n) for n in sizes if (still - sizes).intersection(n.all_input_nodes))
    if not known or any(not isinstance(n.meta["val"], Tensor) or n.meta["val"].shape[0] != image.meta["val"].shape[0] for n in border):
        return Front(frozenset(), ())
    return Front(frozenset(still - sizes - border), tuple(n for n in nodes if n in border))


@torch.no_grad()
def reached(model: TracedModel, parts: Front, images: Tensor) -> Reached:
    """What the images [N, ...] are at the border, on the CPU; the images themselves where there is none."""
    if not parts.border:
        return (images,)
    run = _Until(model, parts)
    split = images.split(answered_at_once(model.module.graph.nodes, model.device))
    several = [[own.cpu() for own in run.at(part.to(model.device))] for part in split]
    return tuple(torch.cat(own) for own in zip(*several, strict=True))


class _Until(fx.Interpreter):
    """A pass as far as the border."""

    def __init__(self, model: TracedModel, parts: Front) -> None:
        super().__init__(model.module)
        self.parts = parts

    def at(self, images: Tensor) -> Reached:
        """What the images are there."""
        self.kept: dict[fx.Node, Tensor] = {}
        self.run(images)
        return tuple(self.kept[n] for n in self.parts.border)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.parts.border:
            self.kept[n] = value
        return value


class Behind(Pass):
    """A pass from the border on; see `Pass`."""

    def __init__(self, model: TracedModel, values: dict[str, Tensor], parts: Front) -> None:
        super().__init__(model, values)
        self.parts, self.images = parts, 0

    def logits(self, given: Reached) -> Tensor:
        """[B, classes], of what B images are at the border."""
        self.images = len(given[0])
        if not self.parts.border:
            return self.run(given[0])  # type: ignore[no-any-return]
        return self.run(None, initial_env=dict(zip(self.parts.border, given, strict=True)))  # type: ignore[no-any-return]

    def run_node(self, n: fx.Node) -> Any:
        if n in self.parts.skipped:
            return None
        return self.images if self.parts.border and is_batch(n) else super().run_node(n)
