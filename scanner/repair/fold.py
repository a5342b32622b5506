"""Which of the clean images a tuning sees, and whether it may mirror them."""

import torch
from torch import Tensor

from banscan.importers import TracedModel
from banscan.scanner.repair import answers

# every so many images of a class is kept from the tuning, to measure on
HELD = 5
# mirroring is suited to data whose mirror images the model knows nearly as well: it loses at most this much accuracy on them
MIRRORED = 0.02


def every_fifth(labels: Tensor) -> Tensor:
    """True for every fifth (HELD) image of a class: those that the tuning does not see."""
    held = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels.unique():
        held[(labels == c).nonzero()[HELD // 2 :: HELD, 0]] = True
    return held


@torch.no_grad()
def mirrors(model: TracedModel, images: Tensor, labels: Tensor) -> bool:
    """Whether the model knows mirror images as well, as of most data but signs and text."""
    axis = 3 if model.input.layout == "NCHW" else 2
    own, mirrored = (answers.accuracy(model, {}, x, labels) for x in (images, images.flip(axis)))
    return mirrored >= own - MIRRORED
