"""How well images support a preprocessing: what the model answers under it, with labels and without."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.inputs import order

# logarithms of the temperatures that logits are divided by, in units of their own spread; the largest logit told apart from a larger one
COOLEST, HOTTEST = -4.0, 4.0
LARGEST = 1e6
# cross-entropy drives logits a few units apart and no further: in the files of other people that this was tried on, 1 to 13
OVERDRIVEN = 40.0
# a candidate that is not overdriven counts where its predictions use so much of the classes that those of an overdriven one do
DIVERSE = 0.6


@dataclass(frozen=True)
class Support:
    """How well the images support a candidate: accuracy where there are labels, mean confidence, and information.

    Information is the mutual information of image and prediction over its largest value, log(classes): high when predictions are sure
    and differ between images. Confidence alone would reward a wrong scale, which drives every image into one sure class. `images` is the
    number of those that it was tried on, `chance` how likely it is of those that keep up, where there are no labels (see `likely`).
    """

    name: str
    accuracy: float | None
    confidence: float
    information: float
    images: int = 0
    chance: float | None = None


@dataclass(frozen=True)
class Seen:
    """What the model answers under one candidate: logits [n, C] of the first n images, in the order in which they are tried.

    `darker` [m, C] are those of the first m of them made darker, where there are no labels.
    """

    name: str
    logits: Tensor
    labels: Tensor | None
    darker: Tensor | None = None

    @property
    def predictions(self) -> Tensor:
        return self.logits.argmax(1)

    @cached_property
    def information(self) -> float:
        return support(self.name, self.logits, None).information

    @property
    def accuracy(self) -> float | None:
        return None if self.labels is None else order.share(self.predictions, self.labels)

    @cached_property
    def losses(self) -> Tensor:
        """[n], each image's surprise; see `losses`."""
        assert self.labels is not None
        return losses(self.logits, self.labels)

    @cached_property
    def spread(self) -> float:
        """How far apart the images' logits are: their deviation over the images, the mean of all classes."""
        return float(finite(self.logits).std(0, correction=0).mean())

    @cached_property
    def diversity(self) -> float:
        """The entropy of the predicted classes over its largest value: how many are in use, however sure the predictions are."""
        counts = torch.bincount(self.predictions, minlength=self.logits.shape[1]).double()
        p = counts / counts.sum()
        return float(-torch.xlogy(p, p).sum() / np.log(len(p)))

    def same(self, other: "Seen") -> float:
        """The share of images that both answer alike, of those that both were tried on."""
        count = min(len(self.logits), len(other.logits))
        return order.share(self.predictions[:count], other.predictions[:count])


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Each image's cross-entropy [N], of logits [N, C] divided by the one temperature that suits all of them best (Guo et al., 2017).

    So a wrong scale is not taken for a right one because it makes the model less sure, or surer.
    """
    logits = finite(logits)
    logits = logits / logits.std(correction=0).clamp(min=1 / LARGEST)

    def mean(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / np.exp(log_temperature), labels))

    best = minimize_scalar(mean, bounds=(COOLEST, HOTTEST), method="bounded").x
    return F.cross_entropy(logits / np.exp(best), labels, reduction="none")


def finite(logits: Tensor) -> Tensor:
    """Logits [N, C] in float64; a wrong scale may have driven some of them out of all bounds."""
    return logits.double().nan_to_num(posinf=LARGEST, neginf=-LARGEST).clamp(-LARGEST, LARGEST)


def support(name: str, logits: Tensor, labels: Tensor | None, chance: float | None = None) -> Support:
    """Measures one candidate's support from logits [N, classes]."""
    p = finite(logits).softmax(1)
    entropy = -torch.xlogy(p, p).sum(1)
    mean = p.mean(0)
    # no less than 0, which rounding may leave it below
    information = ((-torch.xlogy(mean, mean).sum() - entropy.mean()) / np.log(p.shape[1])).clamp(min=0)
    confidence = p.max(1).values
    accuracy = None if labels is None else order.share(logits.argmax(1), labels)
    return Support(name, accuracy, float(confidence.mean()), float(information), len(p), chance)


def overdriven(seen: list[Seen]) -> set[str]:
    """Candidates under which the logits are further apart than any training drives them, as those of a scale that is far too large are.

    None where no other says about as much.
    """
    calm = [s for s in seen if s.spread <= OVERDRIVEN]
    most = max((s.diversity for s in calm), default=-1.0)
    return {s.name for s in seen if s.spread > OVERDRIVEN and most >= DIVERSE * s.diversity}
