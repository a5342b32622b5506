"""What changes of pixels tell about one model: largest margins, universal perturbations towards each class and along a map of classes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from banscan.scanner.config import Settings
from banscan.scanner.evidence import margin_table
from banscan.scanner.margin import largest_margins
from banscan.scanner.patch import cells, passes, render, search_patches
from banscan.scanner.pixels import PixelModel
from banscan.scanner.progress import Counter, Progress
from banscan.scanner.universal import margins_under, universal

# root mean square over the pixels of a universal perturbation: towards a class, and along a map
RADIUS = 0.036
MAP_RADIUS = 0.054
# softness of the universal search in units of the median margin by which clean images are classified
SOFTNESS = 0.5
STARTS, MARGIN_STEPS = 4, 30
UNIVERSAL_STEPS, UNIVERSAL_IMAGES = 24, 16
# a map is first sought on the classes that it is clearest for, then on all
MAP_STEPS, MAP_IMAGES, MAP_TRIES = (80, 50), 64, 2
# images that measure what a perturbation does
MEASURED = 200


@dataclass(frozen=True)
class Mapped:
    """The one-to-one map of classes that one perturbation follows best.

    Attributes:
        attacked: [C], the class that each class is moved to.
        moved: share of held-out clean images that the perturbation moves along the map.
        mutual: share of classes that the map exchanges in pairs; likeness does that, y to y + 1 does not.
    """

    attacked: tuple[int, ...]
    moved: float
    mutual: float


@dataclass(frozen=True)
class PixelEvidence:
    """What changes of pixels do.

    Attributes:
        largest: [K, T], the largest margin of target t from each start.
        moved: [T], share of the other classes' images that a universal perturbation towards t moves there.
        success: [T], mean of sigmoid(margin / softness) over the same images: how clearly it does.
        patch_moved, patch_success: [T], the same two under the best small patch found for t, over `patch_images` images that it was not
            sought on.
        mapped: of the search along a map; None where there are too few images of a class.
    """

    largest: Tensor
    moved: Tensor
    success: Tensor
    patch_moved: Tensor
    patch_success: Tensor
    patch_images: int
    mapped: Mapped | None


def gather_pixels(
    model: PixelModel, pixels: Tensor, labels: Tensor, clean: Tensor, targets: Tensor, settings: Settings, progress: Progress
) -> PixelEvidence:
    """Runs the four searches on pixels [N, ...] in [0, 1] with clean logits [N, C], for the classes `targets` [T]."""
    classes, seed = model.classes, settings.seed
    softness = SOFTNESS * clean_margin(clean)

    count = Counter(progress, "searching for the largest margins", STARTS * MARGIN_STEPS * len(targets))
    largest = largest_margins(model, pixels, targets, starts=STARTS, steps=MARGIN_STEPS, seed=seed, progress=count)

    goals = targets[:, None].repeat(1, classes)
    goals[torch.arange(len(targets)), targets] = -1
    count = Counter(progress, "searching for universal perturbations", UNIVERSAL_STEPS * min(UNIVERSAL_IMAGES, len(labels)) * len(targets))
    found = universal(
        model,
        pixels,
        labels,
        goals,
        radius=RADIUS,
        softness=softness,
        steps=UNIVERSAL_STEPS,
        batch=UNIVERSAL_IMAGES,
        seed=seed,
        progress=count,
    )
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:MEASURED]
    moved, success = effect(margins_under(model, pixels[drawn], labels[drawn], goals, found), softness)

    searching = _two_thirds(labels, seed)
    count = Counter(progress, "searching for patches", passes(len(targets), int(searching.sum())))
    patches = search_patches(model, pixels[searching], labels[searching], targets, softness=softness, seed=seed, progress=count)
    changes = model.from_channels_first(render(patches, cells(model, pixels), model.size(pixels)).to(model.device))
    patch_moved, patch_success = effect(margins_under(model, pixels[~searching], labels[~searching], goals, changes), softness)

    mapped = None
    if len(targets) == classes and int(torch.bincount(labels, minlength=classes).min()) >= 2:
        count = Counter(progress, "searching for a map of classes", sum(MAP_STEPS) * MAP_TRIES * min(MAP_IMAGES, len(labels)))
        mapped = search_map(model, pixels, labels, softness, seed, count)
    return PixelEvidence(largest, moved, success, patch_moved, patch_success, int((~searching).sum()), mapped)


def effect(margins: Tensor, softness: float) -> tuple[Tensor, Tensor]:
    """Shares [T] of images moved, and means [T] of sigmoid(margin / softness), for margins [T, N] that are NaN for images left out."""
    known = ~margins.isnan()
    measured = known.sum(1).clamp(min=1)
    return ((margins > 0) & known).sum(1) / measured, torch.sigmoid(margins / softness).nansum(1) / measured


def clean_margin(clean: Tensor) -> float:
    """The median of largest minus second logit over clean images."""
    top = clean.topk(2, 1).values
    return float((top[:, 0] - top[:, 1]).median().clamp(min=1e-6))


def search_map(
    model: PixelModel, pixels: Tensor, labels: Tensor, softness: float, seed: int, progress: Callable[[int], None] = lambda done: None
) -> Mapped:
    """Looks for one perturbation that moves every class to a class of its own, as an all-to-all backdoor's trigger does.

    Which class goes where is first guessed from the margins of the clean images (training on y → y + 1 leaves the attacked class a little
    more likely even without the trigger), and guessed again from those under the perturbation. The guess is often wrong for many
    classes; the soft objective of `universal` lets the right ones win. Two of three images search, the others measure.
    """
    classes = model.classes
    searching = _two_thirds(labels, seed)
    x, y = pixels[searching], labels[searching]
    change = torch.zeros(1, *pixels.shape[1:], device=model.device)
    best = Mapped(tuple(range(classes)), 0.0, 0.0)
    attacked, score = best_map(_margin_table(model, x, y, change))
    for stage, steps in enumerate(MAP_STEPS):
        goal = attacked.clone()
        if stage == 0:
            goal[score.argsort(descending=True)[(classes + 1) // 2 :]] = -1
        goals = goal[None].repeat(MAP_TRIES, 1)
        changes = universal(
            model,
            x[goal[y] >= 0],
            y[goal[y] >= 0],
            goals,
            radius=MAP_RADIUS,
            softness=softness,
            steps=steps,
            batch=MAP_IMAGES,
            seed=seed + stage,
            progress=progress,
        )
        reached = margins_under(model, x, y, attacked[None].repeat(MAP_TRIES, 1), changes)
        change = changes[(reached > 0).float().mean(1).argmax()][None]
        # the map that the perturbation itself follows, which may be a better one than that it was sought with
        followed, score = best_map(_margin_table(model, x, y, change))
        for candidate in (attacked, followed):
            held = margins_under(model, pixels[~searching], labels[~searching], candidate[None], change)
            moved = float((held > 0).float().mean())
            if moved > best.moved:
                mutual = float((candidate[candidate] == torch.arange(classes)).float().mean())
                best = Mapped(tuple(candidate.tolist()), moved, mutual)
        attacked = followed
    return best


def _two_thirds(labels: Tensor, seed: int) -> Tensor:
    """A mask of about two images of three of every class, one at least on either side."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels.unique():
        own = (labels == c).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=generator)]
        chosen[own[: max(1, min(len(own) - 1, round(len(own) * 2 / 3)))]] = True
    return chosen


@torch.no_grad()
def _margin_table(model: PixelModel, pixels: Tensor, labels: Tensor, change: Tensor) -> Tensor:
    """The margins [C, S] of every class over the images of every source class, under one perturbation."""
    logits = torch.cat([model.logits((part + change).clamp(0, 1)) for part in pixels.split(model.at_once)]).cpu()
    return margin_table(logits[None].expand(model.classes, -1, -1), torch.arange(model.classes), labels, model.classes)


def best_map(table: Tensor) -> tuple[Tensor, Tensor]:
    """The one-to-one map of classes with the largest sum of standardised margins, and each class's part in it.

    Row and column means are taken off the table [T, S] and every source's column is scaled, so that neither classes that everything leans
    to nor sources that lean anywhere decide.
    """
    values = table.double().numpy().copy()
    np.fill_diagonal(values, np.nan)
    for _ in range(10):
        values -= np.nanmean(values, 1, keepdims=True)
        values -= np.nanmean(values, 0, keepdims=True)
    values /= np.maximum(np.sqrt(np.nanmean(values**2, 0, keepdims=True)), 1e-12)
    rows, columns = linear_sum_assignment(np.where(np.isnan(values), 1e6, -values))
    order = np.argsort(columns)
    return torch.from_numpy(rows[order]), torch.from_numpy(values[rows[order], columns[order]])
