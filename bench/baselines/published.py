"""BAN as its published program does it, which is not what its equations say.

- The network is in training mode from the first pass on: every layer is normalised by the batch at hand, and its running statistics drift,
  first by a batch of uniform noise, then by those that the mask is learnt on, then by those of the noise.
- Every batch starts the noise anew, and so that of the last one is what is judged; its steps of eps / steps along the sign are not
  projected, so that it may end at twice the radius.
- The weight of the mask's size divides it by its own value: what counts is a gradient of lambda1 / |m| a neuron; the mask is clamped
  before a step, not behind it.

The noise is on the scale and the shift of batch norms. These are folded into the weights of a traced model; one is put back behind every
convolution, with the deviation and the mean of its output on clean images as scale and shift, which they are on the images of training. A
network without convolutions gets them behind all its layers.

The program prints how the predictions through noise and negative mask are spread and judges nothing; two limits that it declares, of
accuracy and of a loss, are not used. Here, as for BTI-DBF, a model is called where more than half of the images of other classes fall into
one. All images are looked at, among them those that were searched on.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from banscan.importers import Neuron, TracedModel
from banscan.scanner.search.noisy_model import layers, measure
from bench.baselines.equations import radius
from bench.baselines.subject import Finding, Subject, most

LR, MOMENTUM = 0.01, 0.1


@dataclass(frozen=True)
class Settings:
    """Of its README: batches an epoch and for the noise, images of a batch, steps of noise, epochs of the mask, weight of its size."""

    batches: int = 20
    images: int = 128
    steps: int = 30
    epochs: int = 20
    lambda1: float = 0.75


FULL = Settings()


class Restored(fx.Interpreter):
    """A model up to its features with batch norms put back, whose scale and shift carry noise.

    Attributes:
        delta, xi: the noise of each of the layers, [C] (Eq. 3).
        training: whether batches are normalised by themselves, and the running statistics follow them.
    """

    def __init__(self, model: TracedModel, neurons: tuple[Neuron, ...], images: Tensor) -> None:
        super().__init__(model.split(model.features)[0])
        self.layers = {n.node: (k, n.axis) for k, n in enumerate(neurons)}
        self.shift, self.scale = (list(part) for part in zip(*measure(model, neurons, images), strict=True))
        self.mean, self.var = [m.clone() for m in self.shift], [s.square() for s in self.scale]
        self.delta, self.xi = ([torch.zeros_like(m) for m in self.shift] for _ in range(2))
        self.training = True

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name not in self.layers:
            return value
        k, axis = self.layers[n.name]
        scale, shift = (1 + self.delta[k]) * self.scale[k], (1 + self.xi[k]) * self.shift[k]
        normed = F.batch_norm(value.movedim(axis, 1), self.mean[k], self.var[k], scale, shift, self.training, MOMENTUM)
        return normed.movedim(1, axis)

    def restart(self, eps: float, generator: torch.Generator) -> None:
        """Uniform noise in the ball."""
        for noise in (*self.delta, *self.xi):
            noise.uniform_(-eps, eps, generator=generator)

    def climb(self, images: Tensor, labels: Tensor, head: Any, stride: float) -> None:
        """One step along the sign of the loss's gradient."""
        for noise in (noises := (*self.delta, *self.xi)):
            noise.requires_grad_()
        loss = F.cross_entropy(head(self.run(images)), labels)
        gradients = torch.autograd.grad(loss, noises)
        for noise, gradient in zip(noises, gradients, strict=True):
            noise.requires_grad_(False).add_(stride * gradient.sign())


def normed(model: TracedModel) -> tuple[Neuron, ...]:
    """The layers that batch norms are put back behind."""
    below = layers(model, 0)
    convolved = tuple(n for n in below if n.kind != "linear")
    return convolved if convolved else below


def find(subject: Subject, seed: int, settings: Settings = FULL) -> Finding:
    """The class that gains most, and its share."""
    model, labels = subject.model, subject.labels
    images = subject.pixel_model.inputs(subject.pixels)
    generator = torch.Generator().manual_seed(seed)
    _, head = model.split(model.features)
    net = Restored(model, normed(model), images)

    def drawn() -> list[Tensor]:
        return list(torch.randint(len(images), (settings.batches * settings.images,), generator=generator).split(settings.images))

    with torch.no_grad():
        shape = net.run(subject.pixel_model.inputs(torch.rand(settings.images, *subject.pixels.shape[1:], generator=generator)))[0].shape
    mask = torch.rand(shape, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([mask], lr=LR)
    for _ in range(settings.epochs):
        for numbers in drawn():
            with torch.no_grad():
                features = net.run(images[numbers])
            loss = separated(head, features, labels[numbers], mask, settings.lambda1)
            mask.data.clamp_(0, 1)
            (mask.grad,) = torch.autograd.grad(loss, mask)
            optimizer.step()
    eps = radius(subject)
    for numbers in drawn():
        net.restart(eps, generator)
        for _ in range(settings.steps):
            net.climb(images[numbers], labels[numbers], head, eps / settings.steps)
    net.training = False
    with torch.no_grad():
        parts = [head(net.run(part) * (1 - mask)) for part in images.split(settings.images)]
    return most(torch.cat(parts).argmax(1), labels, model.classes)


def separated(head: Any, features: Tensor, labels: Tensor, mask: Tensor, lambda1: float) -> Tensor:
    """Eq. 5 with the mask's size divided by its own value."""
    size = mask.abs().sum()
    keep, drop = (F.cross_entropy(head(part * features), labels) for part in (mask, 1 - mask))
    return keep - drop + lambda1 * size / size.detach()
