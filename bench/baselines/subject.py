"""What every baseline is given and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from banscan.importers import TracedModel
from banscan.scanner.search.pixel_model import PixelModel

# images of other classes that fall into one, from where on a method whose paper prints no rule calls a model here
MOST = 0.5


@dataclass(frozen=True)
class Subject:
    """A model with clean images: pixels [N, ...] in [0, 1] and labels [N]; `pixel_model` is the model behind its preprocessing."""

    model: TracedModel
    pixel_model: PixelModel
    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Finding:
    """A baseline's answer.

    Attributes:
        target: the class that it holds for the target.
        statistic: larger means more like a backdoor; `flagged` by the method's own rule.
    """

    target: int
    statistic: float
    flagged: bool


Baseline = Callable[[Subject, int], Finding]
# of a repaired model: images as it takes them [N, ...] → logits [N, classes]
Answers = Callable[[Tensor], Tensor]
# of a model, the target that its attacker has, which some are told, and a seed
Mender = Callable[[Subject, int, int], Answers]


def most(predicted: Tensor, labels: Tensor, classes: int) -> Finding:
    """The class that most images of others are predicted as, from predictions [N]; flagged where these are more than MOST."""
    shares = torch.stack([(predicted[labels != c] == c).float().mean() for c in range(classes)])
    target = int(shares.argmax())
    return Finding(target, float(shares[target]), bool(shares[target] > MOST))
