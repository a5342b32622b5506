"""BAN as its equations say (Xu et al., NeurIPS 2024): noise on all neurons (Eq. 3, 4), a mask (Eq. 5), and what both do together (Eq. 6).

One search for noise in the ball of the paper's radius, by 30 steps of projected ascent on the loss of clean images, from a random start;
then the share of the images of other classes that fall into one class through noise and negative mask. The paper says "a high attack
success rate" and prints no limit; here, as for BTI-DBF, more than half.
"""

from dataclasses import dataclass

import torch

from banscan.scanner.search import mask
from banscan.scanner.search.neuron_noise import logits_under, search, start
from banscan.scanner.search.noisy_model import attach, layers
from bench.baselines.subject import Finding, Subject, most

# the radius by the side of the images (Appendix B.4: CIFAR-10 and GTSRB, Tiny-ImageNet, larger ones)
RADII = ((32, 0.3), (64, 0.2))
LARGE = 0.1


@dataclass(frozen=True)
class Settings:
    """Steps of noise, the images of each, epochs of the mask and the weight of its size (Appendix B.4; images as in its code)."""

    steps: int = 30
    images: int = 128
    epochs: int = 20
    lambda1: float = 0.75


FULL = Settings()


def radius(subject: Subject) -> float:
    """The paper's epsilon for images of this size."""
    side = max(subject.pixel_model.size(subject.pixels))
    return next((eps for limit, eps in RADII if side <= limit), LARGE)


def find(subject: Subject, seed: int, settings: Settings = FULL) -> Finding:
    """The class that gains most, and its share."""
    model, labels = subject.model, subject.labels
    noisy = attach(model, layers(model, 0), None)
    prepared = noisy.prepare(subject.pixel_model.inputs(subject.pixels))
    eps = radius(subject)
    begin = start(noisy, 1, eps, seed, "linf")
    found = search(noisy, prepared, labels, begin, eps=eps, steps=settings.steps, batch=settings.images, seed=seed, ball="linf")
    _, clean = logits_under(noisy, prepared, torch.zeros_like(found))
    _, noised = logits_under(noisy, prepared, found)
    _, head = model.split(model.features)
    learnt = mask.learn(head, clean[0], labels, seed=seed, epochs=settings.epochs, lambda1=settings.lambda1)
    with torch.no_grad():
        predicted = head(noised[0] * (1 - learnt)).argmax(1)
    return most(predicted, labels, model.classes)
