"""What FeatureRE and Unicorn share: a mask on the features of a model, and the constraints on a trigger that shows only behind it.

All measures are of several classes at once, [K], from features [K, B, ...] of B images for each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers import TracedModel
from banscan.scanner.machine.precision import convert
from banscan.scanner.search.rounding import straighten
from bench.baselines.subject import Subject

# learning rates of networks and of masks, and both Adams' betas
LR, MASK_LR, BETAS = 1e-3, 1e-1, (0.5, 0.9)
# the mean share of the target among the images of a batch, below which the loss of the target counts
SUCCESS = 0.9


@dataclass(frozen=True)
class Bounds:
    """From where on something counts: the change of images, the deviation of masked features between images, the share of the mask."""

    change: float
    spread: float
    size: float


@dataclass(frozen=True)
class Terms:
    """Of every class [K]: the loss of the target, its share, likeness to the target's clean features, change of images, and `spread`."""

    loss: Tensor
    success: Tensor
    likeness: Tensor
    change: Tensor
    spread: Tensor


@dataclass(frozen=True)
class Space:
    """Features of a model.

    Attributes:
        of: pixels [K, B, ...] → features [K, B, ...].
        head: features [K, B, ...] → logits [K, B, classes].
        clean: of all clean images, [N, ...]; `means` of those of each class, [C, ...].
        known: the classes that have images.
        group: classes that memory has room for when each has so many images.
    """

    of: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]
    clean: Tensor
    means: Tensor
    known: Tensor
    group: Callable[[int], int]


def space(subject: Subject) -> Space:
    """The features of `place`."""
    model = subject.pixel_model
    trunk, head = subject.model.split(place(subject.model))
    fast = straighten(convert(trunk, model.dtype))

    def of(pixels: Tensor) -> Tensor:
        x = model.inputs(pixels.flatten(0, 1))
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        found: Tensor = fast(x.to(model.dtype)).float()
        return found.reshape(*pixels.shape[:2], *found.shape[1:])

    def answer(features: Tensor) -> Tensor:
        logits: Tensor = head(features.flatten(0, 1))
        return logits.reshape(*features.shape[:2], -1)

    with torch.no_grad():
        clean = torch.cat([of(part[None])[0] for part in subject.pixels.split(model.at_once)])
    means = torch.stack([clean[subject.labels == c].mean(0) for c in range(model.classes)])
    return Space(of, answer, clean, means, subject.labels.unique(), lambda images: max(1, model.at_once // images))


def place(model: TracedModel) -> str:
    """The features in front of the pooling, where there are any, by which the published programs cut their networks."""
    return model.spatial or model.features


def others(labels: Tensor, classes: Tensor, count: int | None, seed: int) -> Tensor:
    """Numbers [K, M] of images of other classes for each class, in random order: as many as every class has, `count` at most."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for c in classes:
        own = (labels != c).nonzero()[:, 0]
        rows.append(own[torch.randperm(len(own), generator=generator)])
    least = min(len(row) for row in rows)
    return torch.stack([row[: least if count is None else min(least, count)] for row in rows])


def batches(numbers: Tensor, size: int) -> Sequence[Tensor]:
    """Numbers [K, M] in parts [K, size]; a last part of one image is left out, since it has no deviation."""
    return [part for part in numbers.split(size, 1) if part.shape[1] > 1]


def bounded(raw: Tensor) -> Tensor:
    """Masks and patterns in [0, 1] from any numbers."""
    return raw.tanh() / 2 + 0.5


def mixed(mask: Tensor, features: Tensor, reference: Tensor) -> Tensor:
    """Features [K, B, ...] where the mask [K, ...] shows them, those of clean images elsewhere."""
    return mask[:, None] * features + (1 - mask[:, None]) * reference


def spread(mask: Tensor, features: Tensor) -> Tensor:
    """The deviation of the masked features between images, summed over features, by the L1 norm of the mask."""
    return (mask[:, None] * features).std(1).flatten(1).sum(1) / size(mask)


def size(mask: Tensor) -> Tensor:
    """L1 norms [K] of masks [K, ...]."""
    return mask.abs().flatten(1).sum(1)


def likeness(means: Tensor, features: Tensor) -> Tensor:
    """The cosine between the mean features and those of the target's clean images [K, ...]."""
    return F.cosine_similarity(means.flatten(1), features.mean(1).flatten(1), dim=1)


def losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss of each target [K] and its share of the predictions, from logits [K, B, classes]."""
    wanted = targets[:, None].expand(logits.shape[:2])
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").reshape(wanted.shape)
    return loss.mean(1), (logits.argmax(2) == wanted).float().mean(1)


def held(values: Tensor, counts: Tensor) -> Tensor:
    """The values where they count, 0 elsewhere."""
    return torch.where(counts, values, torch.zeros_like(values))


@dataclass(frozen=True)
class Weights:
    """By how much each constraint was missed in the last epoch, [K]; it counts so much more in the next."""

    change: Tensor
    spread: Tensor
    success: Tensor


def first(classes: int) -> Weights:
    """Those of the first epoch."""
    return Weights(*(torch.ones(classes) for _ in fields(Weights)))


def missed(terms: Terms, bounds: Bounds) -> Weights:
    """Those of the next epoch, from means over this one."""
    change, spread_ = over(terms.change, bounds.change), over(terms.spread, bounds.spread)
    return Weights(change, spread_, (SUCCESS - terms.success).clamp(min=0) / SUCCESS)


def over(values: Tensor, bound: float) -> Tensor:
    """By how much of the bound values exceed it."""
    return (values - bound).clamp(min=0) / bound


def objective(terms: Terms, bounds: Bounds, weights: Weights, *, likeness: float, unlike: float = 0.0) -> Tensor:
    """What the networks minimise, [K]: unlikeness to the target's clean features, counted down to `unlike`, and every constraint missed."""
    total = likeness * held(terms.likeness, terms.likeness >= unlike)
    total = total + 10 * (1 + weights.spread) * held(terms.spread, terms.spread > bounds.spread)
    total = total + 10 * (1 + weights.change) * held(terms.change, terms.change > bounds.change)
    return total + (1 + weights.success) * held(terms.loss, terms.success < SUCCESS)


def fit_mask(raw: Tensor, optimizer: torch.optim.Optimizer, shown: Callable[[Tensor], tuple[Tensor, Tensor]], bound: int) -> Tensor:
    """A step of masks towards the targets, their L1 norm held at `bound`; `shown` is loss and success of a mask. Returns the norms [K]."""
    mask = bounded(raw)
    norm = size(mask)
    (gradient,) = torch.autograd.grad((shown(mask)[0] + held(norm, norm > bound)).sum(), raw)
    raw.grad = gradient
    optimizer.step()
    return norm.detach()


def mean(terms: Sequence[Terms]) -> Terms:
    """Over the batches of an epoch."""
    return Terms(*(torch.stack([getattr(t, f.name).detach() for t in terms]).mean(0) for f in fields(Terms)))
