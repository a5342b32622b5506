"""How likely each preprocessing is by what a model answers under it, where nobody labelled the images.

Information alone does not tell: more contrast makes a model surer of everything. What a model was trained on it tells apart well: the
logits of images with one prediction are alike, the largest stands out, they are as far apart as training drives them, and a darker image
has the same prediction. How much each of these counts was fitted on small classifiers trained under many scalings, half of which only
measured (`python -m bench.conventions`, docs/evidence/conventions.md).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.inputs.support import Seen, finite

# by how much an image is darkened
DARKER = 0.9
# the logarithm of the deviation over images that logits usually have; nothing is smaller than the second number
USUAL, SMALLEST = 1.2, 1e-9
# of the evidence; what `python -m bench.conventions fit` prints
WEIGHTS = (3.97, 8.05, 3.58, -0.32, -0.12, 9.69)


def darkened(images: np.ndarray) -> np.ndarray:
    """uint8 images a little darker."""
    return (images * DARKER).round().astype(np.uint8)


def evidence(seen: Seen) -> Tensor:
    """[6]: information, how far the predicted classes explain the logits, how far the largest stands out, the logarithm of the logits'
    deviation over images and how far that is from what is usual, squared, and the share of darker images with the same prediction."""
    logits = finite(seen.logits)
    spread = float(np.log(seen.spread + SMALLEST))
    parts = seen.information, _explained(logits), _standing_out(logits), spread, (spread - USUAL) ** 2, _steady(seen)
    return torch.tensor(parts, dtype=torch.double)


def score(seen: Seen) -> float:
    """The logarithm of how likely a candidate is, but for what is the same of all."""
    return float(evidence(seen) @ torch.tensor(WEIGHTS, dtype=torch.double))


def chances(seen: Sequence[Seen]) -> Tensor:
    """[candidates], adding up to 1: how likely each is the right one of these."""
    return torch.tensor([score(s) for s in seen], dtype=torch.double).softmax(0)


def _explained(logits: Tensor) -> float:
    """The share of the variance of logits [N, C] that the predicted classes explain, less what chance does."""
    own = logits - logits.mean(1, keepdim=True)
    total = float((own - own.mean(0)).square().sum()) / max(1, len(own) - 1)
    classes, number = own.argmax(1).unique(return_inverse=True)
    member = F.one_hot(number).to(own.dtype)
    means = member.T @ own / member.sum(0)[:, None]
    within = float((own - means[number]).square().sum()) / max(1, len(own) - len(classes))
    return 1 - within / (total + SMALLEST)


def _standing_out(logits: Tensor) -> float:
    """How far the largest of an image's logits [N, C] is above the next, in deviations of all of them; the median."""
    first, second = logits.topk(2, 1).values.unbind(1)
    return float(((first - second) / (logits.std(1, correction=0) + SMALLEST)).median())


def _steady(seen: Seen) -> float:
    """The share of darker images that get the class of the image itself."""
    if seen.darker is None:
        return 0.0
    return float((seen.darker.argmax(1) == seen.predictions[: len(seen.darker)]).double().mean())
