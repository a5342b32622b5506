"""MM-BD (Wang et al., IEEE S&P 2024): the largest margin that images made from noise give each class; no clean image is used.

As its authors' program: plain gradient steps on 30 images of uniform noise a class, the largest margin of them, and its rule, which is in
`bench.mmbd`: a gamma distribution fitted to the other classes' margins and a p-value below 0.05. What differs: all steps are taken, where
the program ends a class that no longer gains, and pixels are brought back to [0, 1], where the program clips them inside the model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from banscan.scanner.search.ascent import climb, uphill
from banscan.scanner.search.pixel_model import PixelModel
from banscan.scanner.search.pixel_model import margins as margins_to
from bench import mmbd
from bench.baselines.subject import Finding, Subject


@dataclass(frozen=True)
class Settings:
    """Images of noise a class, steps, and the length of one, in units of the gradient."""

    images: int = 30
    steps: int = 300
    lr: float = 1e-2


FULL = Settings()


def find(subject: Subject, seed: int, settings: Settings = FULL) -> Finding:
    """The statistic is one less the p-value."""
    values = largest(subject.pixel_model, subject.pixels.shape[1:], seed, settings)
    target, p = mmbd.judged(values.double().numpy())
    return Finding(target, 1 - p, p < mmbd.LEVEL)


def largest(model: PixelModel, shape: torch.Size, seed: int, settings: Settings) -> Tensor:
    """The largest margin [C] of each class over its images of this shape."""
    start = torch.rand(settings.images * model.classes, *shape, generator=torch.Generator().manual_seed(seed))
    targets = torch.arange(model.classes).repeat_interleave(settings.images)

    def step(rows: Tensor, momentum: Tensor, gradient: Tensor) -> None:
        rows.add_(settings.lr * gradient)

    found = climb(
        start,
        uphill(lambda rows, own, drawn: margins_to(model.logits(rows), targets[own]).sum(), step),
        steps=settings.steps,
        project=lambda rows: rows.clamp_(0, 1),
        at_once=model.at_once,
    )
    with torch.no_grad():
        parts = zip(found.split(model.at_once), targets.split(model.at_once), strict=True)
        reached = torch.cat([margins_to(model.logits(part), aim) for part, aim in parts])
    return reached.reshape(model.classes, settings.images).max(1).values
