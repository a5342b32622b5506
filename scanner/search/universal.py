"""Universal changes: one change of pixels, or of neurons, the same for every image, that moves classes where a backdoor would.

Towards a target class it is what an all-to-one trigger does; along a one-to-one map of classes, what an all-to-all trigger does.
A change is bounded in L2 only: on pixels it may be a patch, a pattern over the whole image or anything between.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from banscan.kernels.ball import length, project
from banscan.scanner.search.ascent import Drawn, climb, normed_step, uphill
from banscan.scanner.search.changes import Changes
from banscan.scanner.search.pixel_model import margins

# a start of this share of the radius; more would have to be unlearnt
START = 0.2


def universal(
    changes: Changes,
    labels: Tensor,
    goals: Tensor,
    *,
    among: Tensor,
    softness: float,
    steps: int,
    batch: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """One change per row of goals that moves images of class s to class goals[r, s].

    Every step climbs the mean of sigmoid(margin / softness): images that are moved already, and those that cannot be, pull next to
    nothing, so that a part of the goals can be met although others are wrong.

    Args:
        labels: [N]; each step draws `batch` of the images `among` [M], the same for every row.
        goals: [R, C], -1 for classes that a row leaves alone.

    Returns:
        [R, ...].
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(len(goals), *changes.shape, generator=generator).to(changes.device)
    bound = changes.radius * start[0].numel() ** 0.5
    start *= START * bound / length(start)
    count = min(batch, len(among))
    # of one row no more images than there is room for, where that changes nothing but the order of a sum
    together = max(1, changes.at_once) if changes.apart else count

    def draw() -> Drawn:
        return (among[torch.randperm(len(among), generator=generator)[:count]],)

    def moved(rows: Tensor, own: slice, drawn: Drawn) -> Tensor:
        (numbers,) = drawn
        goal = goals[own][:, labels[numbers]].flatten().to(changes.device)
        success = torch.sigmoid(margins(changes.logits(rows, numbers), goal.clamp(min=0)) / softness)
        return (success * (goal >= 0)).sum()

    return climb(
        start,
        uphill(moved, partial(normed_step, stride=2.5 * bound / steps), lambda drawn: ((part,) for part in drawn[0].split(together))),
        steps=steps,
        project=partial(project, radius=bound),
        draw=draw,
        images=count,
        at_once=changes.at_once,
        progress=progress,
    )
