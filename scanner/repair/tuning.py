"""Fine-tuning against noise (BAN, Eq. 8) on a traced model in the form that is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers import TracedModel
from banscan.scanner.repair import noise, teacher
from banscan.scanner.repair.augment import augment
from banscan.scanner.repair.layout import channels_innermost
from banscan.scanner.repair.noise import Pull, shifted
from banscan.scanner.repair.settings import Tuning
from banscan.scanner.repair.trainable import Pass, State
from banscan.scanner.search.pixel_model import Limits


@dataclass(frozen=True)
class Batch:
    """Images [B, ...] of one step and their labels [B], on the model's device.

    `pull` is where noise moves them, `turn` the number of the step, counted from the first epoch.
    """

    images: Tensor
    labels: Tensor
    pull: Pull
    turn: int


def epoch(
    model: TracedModel,
    state: State,
    images: Tensor,
    labels: Tensor,
    how: Tuning,
    *,
    limits: Limits,
    aims: Tensor | None = None,
    pasted: Tensor | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[float, float]:
    """One pass over the images, in place on `state`; the mean loss on clean images and under neuron noise (NaN with lambda_2 = 0).

    Every epoch draws from its own seed, so a training that was interrupted goes on as if it had not been. All is drawn on the CPU, where
    images, labels and aims may stay: batches go to the model's device, and nothing waits for it before the losses are read at the end.

    Args:
        limits: what black and white pixels are to the model.
        aims: [classes], where the noise pulls the images of each class; None for noise that raises the loss, as Eq. 4 has it.
        pasted: [P, ...], patches as changes of pixels; every image of a batch is also shown with one of them.
        progress: called with the number of images of every step.
    """
    generator, starts = (torch.Generator().manual_seed(how.seed * 1_000_003 + state.epoch + offset) for offset in (0, 1 << 40))
    parts = torch.randperm(len(images), generator=generator).tensor_split(max(1, round(len(images) / how.batch)))
    sums = torch.zeros(2, device=model.device)
    for number, part in enumerate(parts):
        x = augment(images[part], how.flip, generator, model.input.layout).to(model.device)
        y = labels[part].to(model.device)
        pull = Pull(y, away=True) if aims is None else Pull(aims[labels[part]].to(model.device), away=False)
        batch = Batch(x, y, pull, number + state.epoch * len(parts))
        trained = _trained(state)
        values = {**state.values, **trained}
        copies = _noisy_pixels(model, state, values, batch, how, limits) + _patched(batch, pasted, how, limits, generator)
        loss, clean, noisy = _losses(model, values, batch, copies, how, starts)
        lr = how.lr * 0.5 * (1 + cos(pi * (state.epoch + number / len(parts)) / how.epochs))
        _descend(state, trained, torch.autograd.grad(loss, list(trained.values())), lr, how)
        sums += torch.stack((clean.detach(), noisy.detach())) * len(y)
        progress(len(y))
    state.epoch += 1
    clean_mean, noisy_mean = (sums / len(images)).tolist()
    return clean_mean, noisy_mean


def _trained(state: State) -> dict[str, Tensor]:
    """What the loss is descended in: the masks alone where there are any (ANP)."""
    masks = [name for name in state.values if name.startswith("mask/")]
    return {name: channels_innermost(state.values[name]).requires_grad_() for name in masks or state.values}


# copies [B, ...] of a batch's images as they are shown beside them, and the weight of the loss on these
Copies = list[tuple[float, Tensor]]


def _noisy_pixels(model: TracedModel, state: State, values: dict[str, Tensor], batch: Batch, how: Tuning, limits: Limits) -> Copies:
    """The images with noise on their pixels, if any: the change whose turn it is takes a step, in place on `state`."""
    if not (how.weight and how.pixels):
        return []
    if state.pixels is None:
        state.pixels = noise.first_changes(batch.images, how).to(model.device)
    own = slice(batch.turn % noise.TURNS, batch.turn % noise.TURNS + 1)
    change = noise.on_pixels(model, values, batch.images, state.pixels[own], batch.pull, limits, how.radius)
    state.pixels[own] = change
    return [(how.pixels, shifted(batch.images, change, limits))]


def _patched(batch: Batch, pasted: Tensor | None, how: Tuning, limits: Limits, generator: torch.Generator) -> Copies:
    """The images with one of the patches each, if any."""
    if not how.weight or pasted is None:
        return []
    own = torch.randint(len(pasted), (len(batch.images),), generator=generator).to(batch.images.device)
    return [(how.patches, shifted(batch.images, pasted[own], limits))]


def _losses(
    model: TracedModel, values: dict[str, Tensor], batch: Batch, copies: Copies, how: Tuning, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of Eq. 8, the cross-entropy on clean images in it, and that under neuron noise (NaN where there is none)."""
    shown = torch.cat((batch.images, *(copy for _, copy in copies)))
    answers, *changed = Pass(model, values).run(shown).split(len(batch.images))
    loss = clean = F.cross_entropy(answers, batch.labels)
    if not how.weight:
        return loss, clean, torch.full((), torch.nan, device=model.device)
    if how.teacher:
        hidden = None if batch.pull.away else teacher.attacked(batch.pull.goal, batch.labels, answers.shape[1])
        loss = torch.lerp(clean, teacher.distance(model, batch.images, answers, hidden), how.teacher)
    found = noise.on_neurons(model, values, batch.images, batch.pull, how, generator)
    noisy = F.cross_entropy(Pass(model, values, found).run(batch.images), batch.labels)
    loss = loss + how.weight * noisy
    for (weight, _), own in zip(copies, changed, strict=True):
        loss = loss + how.weight * weight * F.cross_entropy(own, batch.labels)
    return loss, clean, noisy


@torch.no_grad()
def _descend(state: State, trained: dict[str, Tensor], gradients: Sequence[Tensor], lr: float, how: Tuning) -> None:
    """One step of SGD with momentum and weight decay; masks stay between 0 and 1."""
    for (name, value), gradient in zip(trained.items(), gradients, strict=True):
        if how.clip:  # on networks whose logits are in the thousands a step would else turn everything over
            gradient = gradient * (how.clip * value.norm() / gradient.norm().clamp(min=1e-30)).clamp(max=1)
        momentum = state.momenta.setdefault(name, torch.zeros_like(value))
        momentum.mul_(how.momentum).add_(gradient + how.weight_decay * value)
        stepped = (value - lr * momentum).detach()
        state.values[name] = stepped.clamp(0, 1) if name.startswith("mask/") else stepped
