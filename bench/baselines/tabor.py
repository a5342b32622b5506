"""TABOR (Guo et al., ICDM 2020): Neural Cleanse with four terms against triggers that only look like one.

- *overly large* (R1): the elastic nets, L1 + squared L2, of the mask M and of the pattern outside of it, (1 - M) D.
- *scattered* (R2): the squared differences of neighbouring pixels of both.
- *blocking* (R3): the loss of the true class when the masked pixels are taken away, x (1 - M).
- *overlaying* (R4): the loss of the target when nothing but the trigger is there, M D.

Terms, weights and rule are those of TrojanZoo's program, by which BAN ran it (Appendix B.3): each part of R1 and R2 has its own weight, R3
has none, and a class is called by the anomaly index of its mask's L1 norm over 2, as in Neural Cleanse. TABOR's own paper judges by a
measure of quality of its own, which is not that program's and not here. Search, steps and cost of the mask are those of `cleanse`.
"""

from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.search.pixel_model import PixelModel
from bench.baselines import cleanse
from bench.baselines.subject import Finding, Subject


@dataclass(frozen=True)
class Weights:
    """Of the terms: R1 and R2 of mask and pattern, R3, R4."""

    large_mask: float = 1e-6
    large_pattern: float = 1e-5
    scattered_mask: float = 1e-7
    scattered_pattern: float = 1e-8
    blocking: float = 0.0
    overlaying: float = 1e-2


USUAL = Weights()


def find(subject: Subject, seed: int, settings: cleanse.Settings = cleanse.FULL, weights: Weights = USUAL) -> Finding:
    """Searches all classes as targets and takes the one with the smallest mask."""
    return cleanse.find(subject, seed, settings, partial(terms, subject.pixel_model, weights))


def terms(model: PixelModel, weights: Weights, masks: Tensor, patterns: Tensor, targets: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """The weighted terms, summed over targets [T]; masks have one channel, images [B, ...] have labels [B]."""
    outside = (1 - masks) * patterns
    places = [d for d in (1, 2, 3) if d != model.axis]
    total = (weights.large_mask * large(masks) + weights.large_pattern * large(outside)).sum()
    total = total + (weights.scattered_mask * scattered(masks, places) + weights.scattered_pattern * scattered(outside, places)).sum()
    # a term without weight is not worth its passes
    if weights.blocking:
        without = ((1 - masks)[:, None] * images).flatten(0, 1)
        loss = F.cross_entropy(model.logits(without), labels.repeat(len(targets)), reduction="sum")
        total = total + weights.blocking * loss / len(images)
    if weights.overlaying:
        total = total + weights.overlaying * F.cross_entropy(model.logits(masks * patterns), targets, reduction="sum")
    return total


def large(values: Tensor) -> Tensor:
    """The elastic net [T] of values [T, ...]."""
    flat = values.flatten(1)
    return flat.abs().sum(1) + flat.square().sum(1)


def scattered(values: Tensor, places: list[int]) -> Tensor:
    """The squared differences [T] of neighbours along these dimensions of values [T, ...]."""
    return sum((values.diff(dim=d).square().flatten(1).sum(1) for d in places), start=values.new_zeros(len(values)))
