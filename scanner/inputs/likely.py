"""How likely each preprocessing is by what a model answers under it, where nobody labelled the images.

Information alone does not tell: more contrast makes a model surer of everything. What a model was trained on it tells apart well: the
logits of images with one prediction are alike, the largest stands out, they are as far apart as training drives them, and a darker image
has the same prediction. How much each of these counts was fitted on small classifiers trained under many scalings, half of which only
measured (`python -m bench.conventions`, docs/evidence/conventions.md).
"""

from collections.abc import Container, Sequence
from math import log

import numpy as np
import torch
from torch import Tensor

from banscan.scanner.inputs.support import Seen, finite

# by how much an image is darkened
DARKER = 0.9
_DARKENED = (np.arange(256) * DARKER).round().astype(np.uint8)
# the logarithm of the deviation over images that logits usually have; nothing is smaller than the second number
USUAL, SMALLEST = 1.2, 1e-9
# images for every class that is predicted, from which on their number says how far the classes explain the logits
ENOUGH = 3
# what speaks against a candidate besides makes it so many times less likely and does not rule it out: it is what the file says of itself,
# and who wrote the file may be who planted the backdoor
DOUBT = 20.0
# of the evidence; what `python -m bench.conventions fit` prints
WEIGHTS = (5.41, 4.14, 3.74, -0.18, -0.09, 3.01)


def darkened(images: np.ndarray) -> np.ndarray:
    """uint8 images a little darker."""
    darker: np.ndarray = _DARKENED[images]
    return darker


def evidence(seen: Sequence[Seen]) -> Tensor:
    """[candidates, 6] of candidates that were tried on the same images.

    Information; how far the predicted classes explain the logits, which is left out of all where one predicts too many classes for that;
    how far the largest logit stands out; the logarithm of the logits' deviation over images, and how far that is from what is usual,
    squared; and the share of darker images with the same prediction.
    """
    told = all(len(s.logits) >= ENOUGH * len(s.predictions.unique()) for s in seen)
    return torch.tensor([_evidence(s, explained=told) for s in seen], dtype=torch.double)


def scores(seen: Sequence[Seen], against: Container[str] = ()) -> Tensor:
    """[candidates]: the logarithm of how likely each is, but for what is the same of all; something speaks against those named."""
    return evidence(seen) @ torch.tensor(WEIGHTS, dtype=torch.double) - doubts(seen, against)


def doubts(seen: Sequence[Seen], against: Container[str]) -> Tensor:
    """[candidates]: what is taken off the scores of those that something speaks against."""
    return torch.tensor([log(DOUBT) if s.name in against else 0.0 for s in seen], dtype=torch.double)


def _evidence(seen: Seen, *, explained: bool) -> tuple[float, ...]:
    logits = finite(seen.logits)
    spread = float(np.log(seen.spread + SMALLEST))
    known = _explained(logits) if explained else 0.0
    return seen.information, known, _standing_out(logits), spread, (spread - USUAL) ** 2, _steady(seen)


def _explained(logits: Tensor) -> float:
    """The share of the variance of logits [N, C] that the predicted classes explain, less what chance does."""
    own = logits - logits.mean(1, keepdim=True)
    total = float((own - own.mean(0)).square().sum()) / max(1, len(own) - 1)
    classes, number, counts = own.argmax(1).unique(return_inverse=True, return_counts=True)
    means = torch.zeros(len(classes), own.shape[1], dtype=own.dtype).index_add_(0, number, own) / counts[:, None]
    within = float((own - means[number]).square().sum()) / max(1, len(own) - len(classes))
    return 1 - within / (total + SMALLEST)


def _standing_out(logits: Tensor) -> float:
    """How far the largest of an image's logits [N, C], less their mean over images, is above the next, in deviations of them; the median.

    Less their mean, since a wrong scale may have every image in one class, however clearly.
    """
    own = logits - logits.mean(0)
    first, second = own.topk(2, 1).values.unbind(1)
    return float(((first - second) / (own.std(1, correction=0) + SMALLEST)).median())


def _steady(seen: Seen) -> float:
    """The share of darker images that get the class of the image itself, as far as that is not chance (Cohen, 1960)."""
    if seen.darker is None:
        return 0.0
    own = seen.predictions[: len(seen.darker)]
    same = float((seen.darker.argmax(1) == own).double().mean())
    chance = float((torch.bincount(own).double() / len(own)).square().sum())
    return max(0.0, (same - chance) / (1 - chance + SMALLEST))
