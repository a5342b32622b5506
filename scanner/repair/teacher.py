"""What the given model says of clean images, as a teacher of the tuned one (distillation; Hinton et al., 2015)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers import TracedModel
from banscan.scanner.repair import answers

# what softens the logits that are followed, as in most uses of distillation
TEMPERATURE = 2.0
# in place of a logit that is left out: far enough down for a probability of 0, and finite, so that the divergence stays so
HIDDEN = -1e4


def distance(model: TracedModel, images: Tensor, logits: Tensor, hidden: Tensor | None = None) -> Tensor:
    """How far the logits [N, classes] are from the given model's for the same images.

    TEMPERATURE^2 times the Kullback-Leibler divergence of the softened probabilities (Hinton et al., 2015, Eq. 4 and section 2.1), among
    the classes that are not `hidden` [N, classes].
    """
    with torch.no_grad():
        given = answers.logits(model, {}, images)
    if hidden is not None:
        given, logits = (values.masked_fill(hidden, HIDDEN) for values in (given, logits))
    given = (given / TEMPERATURE).softmax(1)
    return TEMPERATURE**2 * F.kl_div((logits / TEMPERATURE).log_softmax(1), given, reduction="batchmean")


def attacked(goals: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Where the noise pulls each image [N, classes]; nowhere, where that is its own class.

    What the given model says of that class is a trace of the backdoor: many attacks raise its logit on clean images as well.
    """
    return F.one_hot(goals, classes).bool() & (goals != labels)[:, None]
