"""How strong the noise has to be, found by the model's own reaction to it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from banscan.scanner.effort import WHOLE, Noise, at_most
from banscan.scanner.extent import Extent
from banscan.scanner.machine.forecast import HALF
from banscan.scanner.search.neuron_noise import logits_under, start
from banscan.scanner.search.neurons import Neurons
from banscan.scanner.search.spread import evenly
from banscan.scanner.settings import Settings

# the share of images to move, and the strengths between which it is sought
REACH = 0.4
STRENGTHS = {"l2": (0.02, 2.0), "linf": (0.02, 0.95)}
# in an interpolation, shares count as no nearer to none and all than this, and no end is taken up further than this
CERTAIN, AWAY = 0.02, 0.15


def strength(
    neurons: Neurons, targets: Tensor, settings: Settings, budget: Noise = WHOLE.noise, progress: Callable[[int], None] = lambda done: None
) -> float:
    """The eps at which noise reaches the median class on about REACH of the other classes' images.

    Too little noise moves nothing, too much moves everything anywhere; in between, classes can be told apart, and where that is
    depends on the model. Searches with a sample of the targets decide: by bisection, or, where the budget says how near is near enough, by
    interpolation between the log-odds of what was reached.
    """
    drawn = torch.randperm(len(targets), generator=torch.Generator().manual_seed(settings.seed))[: budget.sample]
    sample = targets[drawn.sort().values]
    prepared, labels, _ = some(neurons.prepared, neurons.labels, budget.seen)
    low, high = (_Tried(math.log(eps)) for eps in STRENGTHS[settings.ball])
    for _ in range(budget.tries):
        middle = _between(low, high)
        noise = start(neurons.fast, len(sample), math.exp(middle), settings.seed, settings.ball)
        found = neurons.search(noise, sample, eps=math.exp(middle), seed=settings.seed, settings=settings, budget=budget, progress=progress)
        logits, _ = logits_under(neurons.fast, prepared, found)
        progress(len(sample) * len(labels) // HALF)
        reached = float(moved_share(logits, sample, labels).median())
        if abs(reached - REACH) < budget.near:
            return math.exp(middle)
        here = _Tried(middle, reached if budget.near else None)
        low, high = (low, here) if reached >= REACH else (here, high)
    return math.exp(_between(low, high))


def passes(extent: Extent) -> int:
    """Of `strength` at most, in those with a gradient."""
    budget = extent.effort.noise
    step = extent.settings.steps * extent.drawn + at_most(extent.images, budget.seen) // HALF
    return budget.tries * min(budget.sample, extent.searched) * step


@dataclass(frozen=True)
class _Tried:
    """The logarithm of a strength, and the share of the images that it moves where that is known."""

    at: float
    reached: float | None = None


def _between(low: _Tried, high: _Tried) -> float:
    """Where the share that is aimed at may lie: by interpolation, never near an end; in the middle where an end was not tried."""
    if low.reached is None or high.reached is None:
        return (low.at + high.at) / 2
    below, above, aim = (math.log(max(CERTAIN, share) / max(CERTAIN, 1 - share)) for share in (low.reached, high.reached, REACH))
    part = (aim - below) / max(above - below, CERTAIN)
    return low.at + min(max(part, AWAY), 1 - AWAY) * (high.at - low.at)


def some(prepared: tuple[Tensor, ...], labels: Tensor, count: int | None) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """So many of the prepared images, all classes evenly among them, their labels and their numbers; all of them without a count."""
    if count is None:
        return prepared, labels, torch.arange(len(labels))
    numbers = evenly(labels.argsort(stable=True), count).sort().values
    return tuple(p[numbers.to(p.device)] for p in prepared), labels[numbers], numbers


def moved_share(logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Share [T] of the images of other classes that are predicted as t, for logits [T, N, C]."""
    others = labels[None] != targets[:, None]
    hit = (logits.argmax(2) == targets[:, None]) & others
    return hit.sum(1) / others.sum(1)
