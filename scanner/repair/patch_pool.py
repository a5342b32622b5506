"""Small patches that pull images to where the trigger sends them, for a repair to paste: a population that follows the model.

Neither noise on neurons nor changes within a ball find the patches of every network; pasting does (see `patch`). What is found of a
trigger at first is a part of it. While the model unlearns the parts, those of their mutants are kept that still work.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from banscan.importers import TracedModel
from banscan.scanner import effort
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.search import patch
from banscan.scanner.search.changes import softened
from banscan.scanner.search.patch import Patches
from banscan.scanner.search.pixel_model import PixelModel, margins, pixel_model


@dataclass(frozen=True, kw_only=True)
class Pool:
    """How many patches are tried.

    Attributes:
        kept: patches that are pasted; before every epoch `mutants` of each are tried, and `fresh` new ones, on `tried` images each.
        first: patches that are drawn at first, tried on so many `images`; `generations` with `children` of each follow.
    """

    kept: int
    mutants: int
    fresh: int
    tried: int
    first: int
    images: int
    generations: int
    children: int


# more generations than the scan has, since a population that settles beside the trigger does not come back to it
WHOLE = Pool(
    kept=16,
    mutants=3,
    fresh=32,
    tried=16,
    first=effort.WHOLE.patches.first,
    images=effort.WHOLE.patches.images,
    generations=8,
    children=patch.CHILDREN,
)
# where a pass is dear: a sixth of the passes, for the copy of a control, which is thrown away
LIGHT = Pool(kept=8, mutants=2, fresh=16, tried=8, first=1024, images=4, generations=3, children=patch.CHILDREN)


@dataclass(frozen=True)
class Victims:
    """What patches are tried on: pixels [N, ...] in [0, 1] of images that a trigger moves, and the classes [N] that it moves them to.

    `softness` is that of the search (`changes.softened`).
    """

    view: PixelModel
    pixels: Tensor
    goals: Tensor
    softness: float


def victims_of(model: TracedModel, preprocess: Preprocess, images: Tensor, labels: Tensor, aims: Tensor) -> Victims:
    """For images [N, ...] as the model takes them and `aims` [classes], where a trigger sends the images of each class."""
    view = pixel_model(model, preprocess, torch.float32)
    with torch.no_grad():
        clean = torch.cat([model.logits(part).cpu() for part in images.split(view.at_once)])
    moved = aims[labels] != labels
    return Victims(view, view.pixels(images[moved].to(view.device)), aims[labels[moved]], softened(clean))


@torch.no_grad()
def successes(victims: Victims, logits: Callable[[Tensor], Tensor], patches: Patches, drawn: Tensor) -> Tensor:
    """How clearly each patch moves the images numbered `drawn` [M] to their goals: [P], mean of sigmoid(margin / softness).

    `logits` is the model as it is now, for inputs as the model takes them.
    """
    view, pixels, goals = victims.view, victims.pixels[drawn.to(victims.view.device)], victims.goals[drawn]
    result = torch.empty(len(patches))
    for rows, answers in patch.pasted(view, pixels, patches, lambda changed: logits(view.inputs(changed))):
        margin = margins(answers, goals.repeat(len(answers) // len(goals)))
        result[rows] = torch.sigmoid(margin / victims.softness).reshape(-1, len(goals)).mean(1)
    return result


def followed(victims: Victims, logits: Callable[[Tensor], Tensor], patches: Patches | None, seed: int, pool: Pool = WHOLE) -> Patches:
    """The best of the patches, their mutants and new ones; where there are none yet, of many new ones and their generations."""
    generator = torch.Generator().manual_seed(seed)
    shape = patch.cells(victims.view, victims.pixels)

    def best(candidates: Patches, images: int) -> Patches:
        drawn = torch.randperm(len(victims.goals), generator=generator)[:images]
        return candidates[successes(victims, logits, candidates, drawn).topk(pool.kept).indices]

    def grown(parents: Patches, mutants: int) -> Patches:
        own = torch.arange(len(parents)).repeat_interleave(mutants)
        return best(parents + patch.mutate(parents[own], shape, generator) + patch.draw(pool.fresh, shape, generator), pool.tried)

    if patches is not None:
        return grown(patches, pool.mutants)
    patches = best(patch.draw(pool.first, shape, generator), pool.images)
    for _ in range(pool.generations):
        patches = grown(patches, pool.children)
    return patches
