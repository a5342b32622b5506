"""The noise that a batch is tuned against: on the neurons, searched anew for each, and on the pixels, carried on from one to the next."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers import TracedModel
from banscan.kernels.ball import length, project
from banscan.scanner.repair.settings import Tuning
from banscan.scanner.repair.trainable import Noise, Pass
from banscan.scanner.search.pixel_model import Limits

# changes of the pixels that take turns, and how long they are at first and every step is, in units of their radius
TURNS, START, NUDGE = 4, 0.2, 0.3


@dataclass(frozen=True)
class Pull:
    """Where noise moves the images of a batch: to `goal` [B], or away from it where that is their own class (Eq. 4)."""

    goal: Tensor
    away: bool

    def reached(self, logits: Tensor) -> Tensor:
        """What noise climbs, for logits [B, C] under it."""
        loss = F.cross_entropy(logits, self.goal)
        return loss if self.away else -loss


def on_neurons(model: TracedModel, values: dict[str, Tensor], images: Tensor, pull: Pull, how: Tuning, generator: torch.Generator) -> Noise:
    """Eq. 4 for one batch [B, ...]: delta and xi within `how.eps`, by sign steps from a random start."""
    still = {name: value.detach() for name, value in values.items()}
    names = [name.removeprefix("scale/") for name in values if name.startswith("scale/")]
    sizes = [len(values[f"scale/{name}"]) for name in names]
    flat = ((torch.rand(2 * sum(sizes), generator=generator) * 2 - 1) * how.eps).to(model.device)

    def views() -> Noise:
        delta, xi = flat.chunk(2)
        return dict(zip(names, zip(delta.split(sizes), xi.split(sizes), strict=True), strict=True))

    for _ in range(how.steps):
        flat.requires_grad_()
        (gradient,) = torch.autograd.grad(pull.reached(Pass(model, still, views()).run(images)), flat)
        flat = (flat.detach() + 2 * how.eps / how.steps * gradient.sign()).clamp(-how.eps, how.eps)
    return views()


def on_pixels(
    model: TracedModel, values: dict[str, Tensor], images: Tensor, change: Tensor, pull: Pull, limits: Limits, radius: float
) -> Tensor:
    """The change [1, ...] of the pixels after one more step, of at most this root mean square.

    Batch norm sees the images beside their changed copies, or it would take the change off again.
    """
    change = change.detach().requires_grad_()
    still = {name: value.detach() for name, value in values.items()}
    moved = Pass(model, still).run(torch.cat((images, shifted(images, change, limits))))[len(images) :]
    (gradient,) = torch.autograd.grad(pull.reached(moved), change)
    bound = radius * change.numel() ** 0.5
    stepped: Tensor = change.detach() + NUDGE * bound * gradient / length(gradient)
    project(stepped, bound)
    return stepped


def first_changes(images: Tensor, how: Tuning) -> Tensor:
    """Where the changes of the pixels of images [N, ...] start, [TURNS, ...]: small and random."""
    drawn = torch.randn(TURNS, *images.shape[1:], generator=torch.Generator().manual_seed(how.seed))
    project(drawn, START * how.radius * images[0].numel() ** 0.5)
    return drawn


def shifted(images: Tensor, change: Tensor, limits: Limits) -> Tensor:
    """Images [N, ...] with one change of their pixels, in units of the range between black and white, which they do not leave."""
    low, high = limits
    return low + (high - low) * ((images - low) / (high - low) + change).clamp(0, 1)
