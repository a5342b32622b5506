"""What changes of pixels tell about one model: largest margins, universal perturbations towards each class and along a map of classes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from banscan.scanner.machine.progress import Counter, Progress
from banscan.scanner.search import patch
from banscan.scanner.search.class_map import Mapped, map_of, two_thirds
from banscan.scanner.search.margin import largest_margins
from banscan.scanner.search.pixel_model import PixelModel
from banscan.scanner.search.universal import Changes, margins_under, softened, universal
from banscan.scanner.settings import Settings

# root mean square over the pixels of a universal perturbation: towards a class, and along a map
RADIUS = 0.036
MAP_RADIUS = 0.054
STARTS, MARGIN_STEPS = 4, 30
UNIVERSAL_STEPS, UNIVERSAL_IMAGES = 24, 16
# images that measure what a perturbation does
MEASURED = 200


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
    softness = softened(clean)

    count = Counter(progress, "searching for the largest margins", STARTS * MARGIN_STEPS * len(targets))
    largest = largest_margins(model, pixels, targets, starts=STARTS, steps=MARGIN_STEPS, seed=seed, progress=count)

    goals = targets[:, None].repeat(1, classes)
    goals[torch.arange(len(targets)), targets] = -1
    count = Counter(progress, "searching for universal perturbations", UNIVERSAL_STEPS * min(UNIVERSAL_IMAGES, len(labels)) * len(targets))
    near, everything = of_pixels(model, pixels, RADIUS), torch.arange(len(labels))
    found = universal(
        near,
        labels,
        goals,
        among=everything,
        softness=softness,
        steps=UNIVERSAL_STEPS,
        batch=UNIVERSAL_IMAGES,
        seed=seed,
        progress=count,
    )
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:MEASURED]
    moved, success = effect(margins_under(near, labels, goals, found, drawn), softness)

    searching = two_thirds(labels, seed)
    count = Counter(progress, "searching for patches", patch.passes(len(targets), int(searching.sum())))
    patches = patch.search_patches(model, pixels[searching], labels[searching], targets, softness=softness, seed=seed, progress=count)
    pasted = patch.changes(model, pixels, patches)
    held = (~searching).nonzero()[:, 0]
    patch_moved, patch_success = effect(margins_under(near, labels, goals, pasted, held), softness)

    mapped = map_of(
        of_pixels(model, pixels, MAP_RADIUS),
        labels,
        targets,
        classes,
        softness=softness,
        seed=seed,
        stage="searching for a map of classes",
        progress=progress,
    )
    return PixelEvidence(largest, moved, success, patch_moved, patch_success, len(held), mapped)


def of_pixels(model: PixelModel, pixels: Tensor, radius: float) -> Changes:
    """What is added to the pixels of the images [N, ...], within this root mean square; pixels stay between 0 and 1."""

    def logits(parts: Tensor, images: Tensor) -> Tensor:
        return model.logits((pixels[images][None] + parts[:, None]).clamp(0, 1).flatten(0, 1))

    def exact(change: Tensor, images: Tensor) -> Tensor:
        return torch.cat([model.logits((pixels[part] + change).clamp(0, 1)) for part in images.split(model.at_once)]).cpu()

    return Changes(tuple(pixels.shape[1:]), radius, model.device, model.at_once, logits, exact)


def effect(margins: Tensor, softness: float) -> tuple[Tensor, Tensor]:
    """Shares [T] of images moved, and means [T] of sigmoid(margin / softness), for margins [T, N] that are NaN for images left out."""
    known = ~margins.isnan()
    measured = known.sum(1).clamp(min=1)
    return ((margins > 0) & known).sum(1) / measured, torch.sigmoid(margins / softness).nansum(1) / measured
