"""The noise that a batch is tuned against: on the neurons, searched anew for each, and on the pixels, carried on from one to the next."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers import TracedModel
from banscan.kernels.ball import length, project
from banscan.scanner.repair.settings import Tuning
from banscan.scanner.repair.trainable import Noise, Pass
from banscan.scanner.search.ascent import Drawn, climb, uphill
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

    def noise(rows: Tensor) -> Noise:
        delta, xi = rows[0].chunk(2)
        return dict(zip(names, zip(delta.split(sizes), xi.split(sizes), strict=True), strict=True))

    def reached(rows: Tensor, own: slice, drawn: Drawn) -> Tensor:
        return pull.reached(Pass(model, still, noise(rows)).run(images))

    def step(rows: Tensor, momentum: Tensor, gradient: Tensor) -> None:
        rows.add_(2 * how.eps / how.steps * gradient.sign())

    start = ((torch.rand(1, 2 * sum(sizes), generator=generator) * 2 - 1) * how.eps).to(model.device)
    return noise(climb(start, uphill(reached, step), steps=how.steps, project=lambda rows: rows.clamp_(-how.eps, how.eps)))


def on_pixels(
    model: TracedModel, values: dict[str, Tensor], images: Tensor, change: Tensor, pull: Pull, limits: Limits, radius: float
) -> Tensor:
    """The change [1, ...] of the pixels after one more step, of at most this root mean square.

    Batch norm sees the images beside their changed copies, or it would take the change off again.
    """
    still = {name: value.detach() for name, value in values.items()}
    bound = radius * change.numel() ** 0.5

    def reached(rows: Tensor, own: slice, drawn: Drawn) -> Tensor:
        both = torch.cat((images, shifted(images, rows, limits)))
        return pull.reached(Pass(model, still).run(both)[len(images) :])

    def step(rows: Tensor, momentum: Tensor, gradient: Tensor) -> None:
        rows.add_(NUDGE * bound * gradient / length(gradient))

    return climb(change, uphill(reached, step), steps=1, project=partial(project, radius=bound))


def first_changes(images: Tensor, how: Tuning) -> Tensor:
    """Where the changes of the pixels of images [N, ...] start, [TURNS, ...]: small and random."""
    drawn = torch.randn(TURNS, *images.shape[1:], generator=torch.Generator().manual_seed(how.seed))
    project(drawn, START * how.radius * images[0].numel() ** 0.5)
    return drawn


def shifted(images: Tensor, change: Tensor, limits: Limits) -> Tensor:
    """Images [N, ...] with one change of their pixels, in units of the range between black and white, which they do not leave."""
    low, high = limits
    return low + (high - low) * ((images - low) / (high - low) + change).clamp(0, 1)
