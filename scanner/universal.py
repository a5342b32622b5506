"""Universal perturbations: one change of pixels, the same on every image, that moves classes where a backdoor would.

Towards a target class it is what an all-to-one trigger does; along a one-to-one map of classes, what an all-to-all trigger does.
The perturbation is bounded in L2 only, so it may be a patch, a pattern over the whole image or anything between.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from banscan.scanner.ball import length, project
from banscan.scanner.pixels import MOMENTUM, PixelModel, margins

# a start of this share of the radius; more would have to be unlearnt
START = 0.2


def universal(
    model: PixelModel,
    pixels: Tensor,
    labels: Tensor,
    goals: Tensor,
    *,
    radius: float,
    softness: float,
    steps: int,
    batch: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """One perturbation per row of goals that moves images of class s to class goals[r, s].

    Every step climbs the mean of sigmoid(margin / softness): images that are moved already, and those that cannot be, pull next to
    nothing, so that a part of the goals can be met although others are wrong.

    Args:
        pixels, labels: [N, ...] in [0, 1] and [N]; each step draws `batch` of them, the same for every row.
        goals: [R, C], -1 for classes that a row leaves alone.
        radius: root mean square over the pixels.

    Returns:
        [R, ...], to be added to pixels and clipped to [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    bound = radius * pixels[0].numel() ** 0.5
    found = torch.randn(len(goals), *pixels.shape[1:], generator=generator).to(model.device)
    found *= START * bound / length(found)
    momentum = torch.zeros_like(found)
    count = min(batch, len(labels))
    group = max(1, model.at_once // count)
    for _ in range(steps):
        drawn = torch.randperm(len(labels), generator=generator)[:count]
        for first in range(0, len(goals), group):
            rows = slice(first, first + group)
            part = found[rows].detach().requires_grad_()
            goal = goals[rows][:, labels[drawn]].flatten().to(model.device)
            moved = (pixels[drawn][None] + part[:, None]).clamp(0, 1).flatten(0, 1)
            success = torch.sigmoid(margins(model.logits(moved), goal.clamp(min=0)) / softness)
            (gradient,) = torch.autograd.grad((success * (goal >= 0)).sum(), part)
            momentum[rows] = MOMENTUM * momentum[rows] + gradient / length(gradient)
            found[rows] = found[rows] + (2.5 * bound / steps) * momentum[rows]
            progress(len(moved))
        project(found, bound)
    return found


@torch.no_grad()
def margins_under(model: PixelModel, pixels: Tensor, labels: Tensor, goals: Tensor, found: Tensor) -> Tensor:
    """Margin [R, N] of each image's goal under each perturbation, NaN where the row leaves the class alone."""
    result = torch.empty(len(goals), len(labels))
    for r, (goal, change) in enumerate(zip(goals, found, strict=True)):
        own = goal[labels]
        logits = torch.cat([model.logits((part + change).clamp(0, 1)) for part in pixels.split(model.at_once)]).cpu()
        result[r] = margins(logits, own.clamp(min=0)).where(own >= 0, torch.nan)
    return result
