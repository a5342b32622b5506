"""Neural Cleanse (Wang et al., IEEE S&P 2019): the smallest mask and pattern that sends all images to a class, for every class at once.

A class whose mask is abnormally small is taken for the target: its anomaly index, the distance of its mask's L1 norm below the median
in units of the median absolute deviation, exceeds 2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.baselines.subject import Finding, Subject

# of the paper and its code
COST, FACTOR, PATIENCE, SUCCESS, FLAGGED = 1e-3, 1.5, 5, 0.99, 2.0
WINDOW = 5
# makes the median absolute deviation of normal values their standard deviation
CONSISTENT = 1.4826


@dataclass(frozen=True)
class Settings:
    """Steps, the images of each, and the learning rate; by default as BAN ran it (Appendix B.3): 100 epochs of 500 images, by hundreds."""

    steps: int = 500
    images: int = 100
    lr: float = 0.01


FULL = Settings()
# what a CPU allows
SMALL = Settings(250, 16, 0.1)
# masks [T, ...] and patterns [T, ...] of some classes, these classes [T], images [B, ...] and their labels [B] → a sum over the classes
Extra = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass
class _Search:
    """State of all classes' searches: the best mask norm with enough success, and the cost that is raised and lowered around it."""

    cost: Tensor
    best: Tensor
    up: Tensor
    down: Tensor

    def update(self, success: Tensor, norms: Tensor) -> None:
        enough = success >= SUCCESS
        self.best = torch.where(enough & (norms < self.best), norms, self.best)
        self.up = torch.where(enough, self.up + 1, torch.zeros_like(self.up))
        self.down = torch.where(enough, torch.zeros_like(self.down), self.down + 1)
        raised, lowered = self.up >= PATIENCE, self.down >= PATIENCE
        self.cost = torch.where(raised, self.cost * FACTOR, torch.where(lowered, self.cost / FACTOR**1.5, self.cost))
        self.up = torch.where(raised, torch.zeros_like(self.up), self.up)
        self.down = torch.where(lowered, torch.zeros_like(self.down), self.down)


def find(subject: Subject, seed: int, settings: Settings = FULL, extra: Extra | None = None) -> Finding:
    """Searches all classes as targets and takes the one with the smallest mask."""
    norms = mask_norms(subject, seed, settings, extra)
    index, target = anomaly(norms)
    return Finding(target, index, index > FLAGGED)


def anomaly(norms: Tensor) -> tuple[float, int]:
    """The anomaly index of the smallest of the norms [C], and its class."""
    middle = norms.median()
    deviation = CONSISTENT * (norms - middle).abs().median().clamp(min=1e-9)
    target = int(norms.argmin())
    return float((middle - norms[target]) / deviation), target


def mask_norms(subject: Subject, seed: int, settings: Settings, extra: Extra | None) -> Tensor:
    """The smallest L1 norm [C] of a mask that sends SUCCESS of the images to each class; the last one where none did.

    `extra` is added to the loss, for methods that ask more of masks and patterns.
    """
    model, pixels = subject.pixel_model, subject.pixels
    generator = torch.Generator().manual_seed(seed)
    classes, axis = model.classes, model.axis
    shape = list(pixels.shape[1:])
    flat = [*shape]
    flat[axis - 1] = 1
    mask = torch.randn(classes, *flat, generator=generator).requires_grad_()
    pattern = torch.randn(classes, *shape, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([mask, pattern], lr=settings.lr, betas=(0.5, 0.9))
    state = _Search(
        torch.full((classes,), COST),
        torch.full((classes,), torch.inf),
        torch.zeros(classes, dtype=torch.long),
        torch.zeros(classes, dtype=torch.long),
    )
    targets = torch.arange(classes)
    group = max(1, model.at_once // settings.images)
    hits = torch.zeros(classes)
    for step in range(settings.steps):
        drawn = torch.randperm(len(pixels), generator=generator)[: settings.images]
        x, labels = pixels[drawn], subject.labels[drawn]
        optimizer.zero_grad()
        for rows in targets.split(group):
            m, p = unit(mask[rows])[:, None], unit(pattern[rows])[:, None]
            logits = model.logits(((1 - m) * x[None] + m * p).flatten(0, 1))
            wanted = rows.repeat_interleave(len(x))
            loss = F.cross_entropy(logits, wanted, reduction="sum") / len(x) + (state.cost[rows] * m.flatten(1).sum(1)).sum()
            if extra is not None:
                loss = loss + extra(m[:, 0], p[:, 0], rows, x, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            hits[rows] += (logits.argmax(1) == wanted).float().reshape(len(rows), -1).mean(1)
        optimizer.step()
        if (step + 1) % WINDOW == 0:
            state.update(hits / WINDOW, unit(mask).detach().flatten(1).sum(1))
            hits.zero_()
    last = unit(mask).detach().flatten(1).sum(1)
    return torch.where(state.best.isfinite(), state.best, last)


def unit(value: Tensor) -> Tensor:
    """Any number to [0, 1]."""
    return (value.tanh() + 1) / 2
