"""One change that all images share: noise on the neurons, or what is added to the pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from banscan.scanner.inputs import checks
from banscan.scanner.search.neuron_noise import logits_under
from banscan.scanner.search.noisy_model import NoisyModel
from banscan.scanner.search.pixel_model import PixelModel, margins

# softness of the searches in units of the median margin by which clean images are classified
SOFTNESS = 0.5
# changes that are kept to be shown
KEPT = 4


@dataclass(frozen=True)
class Changes:
    """A kind of change that N images can be seen under.

    Attributes:
        shape: of one change.
        radius: bound of its root mean square.
        logits: changes [R, ...] and numbers [B] of images to logits [R * B, C], the changes the outer part.
        exact: one change [...] and numbers [B] to logits [B, C] on the CPU, as exactly as results are read off.
        at_once: the number of images that memory has room for.
        apart: whether an image's logits are the same whatever others are looked at with it.
    """

    shape: tuple[int, ...]
    radius: float
    device: torch.device
    at_once: int
    logits: Callable[[Tensor, Tensor], Tensor]
    exact: Callable[[Tensor, Tensor], Tensor]
    apart: bool = False


def of_neurons(
    fast: NoisyModel, exact: NoisyModel, prepared: tuple[Tensor, ...], prepared_exact: tuple[Tensor, ...], eps: float
) -> Changes:
    """Noise on the neurons, within the ball of root mean square eps; arguments as in `subject.Neurons`."""

    def logits(parts: Tensor, images: Tensor) -> Tensor:
        return fast.run(tuple(p[images] for p in prepared), parts)[0]

    def exactly(change: Tensor, images: Tensor) -> Tensor:
        return logits_under(exact, tuple(p[images] for p in prepared_exact), change[None])[0][0]

    return Changes((fast.size,), eps, fast.device, fast.at_once, logits, exactly)


def of_pixels(model: PixelModel, pixels: Tensor, radius: float) -> Changes:
    """What is added to the pixels of the images [N, ...], within this root mean square; pixels stay between 0 and 1."""

    def logits(parts: Tensor, images: Tensor) -> Tensor:
        return model.logits((pixels[images][None] + parts[:, None]).clamp(0, 1).flatten(0, 1))

    def exactly(change: Tensor, images: Tensor) -> Tensor:
        return torch.cat([model.logits((pixels[part] + change).clamp(0, 1)) for part in images.split(model.at_once)]).cpu()

    return Changes(tuple(pixels.shape[1:]), radius, model.device, model.at_once, logits, exactly, apart=True)


@torch.no_grad()
def changed_logits(changes: Changes, change: Tensor, among: Tensor) -> Tensor:
    """Logits [M, C] of the images `among` [M] under one change.

    Raises:
        EvidenceError: some are NaN or infinite; they would pass for images that were not moved.
    """
    logits = changes.exact(change, among)
    checks.check_finite(logits)
    return logits


@torch.no_grad()
def margins_under(
    changes: Changes, labels: Tensor, goals: Tensor, found: Tensor, among: Tensor, progress: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Margin [R, M] of each image's goal under each change, NaN where the row leaves the class alone; raises as `changed_logits`.

    `progress` is called with the images that were looked at.
    """
    result = torch.empty(len(goals), len(among))
    for r, (goal, change) in enumerate(zip(goals, found, strict=True)):
        own = goal[labels[among]]
        result[r] = margins(changed_logits(changes, change, among), own.clamp(min=0)).where(own >= 0, torch.nan)
        progress(len(among))
    return result


def effect(margins_: Tensor, softness: float) -> tuple[Tensor, Tensor]:
    """Shares [T] of images moved, and means [T] of sigmoid(margin / softness), for margins [T, N] that are NaN for images left out."""
    known = ~margins_.isnan()
    measured = known.sum(1).clamp(min=1)
    return ((margins_ > 0) & known).sum(1) / measured, torch.sigmoid(margins_ / softness).nansum(1) / measured


@dataclass(frozen=True)
class Found:
    """Changes aimed at T classes, for those who show them.

    Attributes:
        changes: [K, ...], on the CPU, of the classes at the K `places` among the T, the one that is reached most clearly first.
        margins: [T, M], of each class under its change over the images `among` [M]; NaN for images of the class itself.
    """

    changes: Tensor
    places: tuple[int, ...]
    margins: Tensor
    among: Tensor


def kept(found: Tensor, success: Tensor, margins_: Tensor, among: Tensor) -> Found:
    """Of the changes found [T, ...] those with the largest `success` [T], with the margins [T, M] of all."""
    places = success.argsort(descending=True, stable=True)[:KEPT]
    return Found(found[places.to(found.device)].cpu(), tuple(places.tolist()), margins_, among)


def softened(clean: Tensor) -> float:
    """The softness for a model with these logits [N, C] of clean images: SOFTNESS of the median of largest minus second logit."""
    top = clean.topk(2, 1).values
    return SOFTNESS * float((top[:, 0] - top[:, 1]).median().clamp(min=1e-6))
