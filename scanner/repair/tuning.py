"""Fine-tuning against noise (BAN, Eq. 8) on a traced model in its unfolded form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import cos, inf, pi

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from banscan.errors import UsageError
from banscan.importers import TracedModel
from banscan.kernels.ball import length, project
from banscan.scanner.repair.trainable import MANY, Noise, Pass, State, parts
from banscan.scanner.search.pixel_model import Limits

# a crop after padding by this share of the side, as training uses it
CROP = 8
# what softens the logits that are followed, as in most uses of distillation
TEMPERATURE = 2.0
# in place of a logit that is left out: far enough down for a probability of 0, and finite, so that the divergence stays so
HIDDEN = -1e4
# changes of the pixels that take turns, and how long they are at first and every step is, in units of their radius
TURNS, START, NUDGE = 4, 0.2, 0.3


@dataclass(frozen=True)
class Tuning:
    """Settings of Eq. 8; where they are not the paper's (Appendix B.4), docs/method.md says why.

    Attributes:
        lr: at the start; it falls to 0 along half a cosine.
        weight: lambda_2, the weight of the loss under noise; 0 is plain fine-tuning.
        eps, steps: bound of delta and xi, and the PGD steps that search them anew for every batch.
        pixels, radius: weight of the loss under noise on the pixels beside that under noise on neurons, and the root mean square of that
            noise over the pixels; it is one change of all images, carried on from batch to batch.
        patches: weight of the loss under small patches beside that under noise on neurons (see `pasting`).
        teacher: the share of the loss on clean images that follows the given model's softened logits instead of the labels
            (distillation; Hinton et al., 2015), but for the class that the noise pulls to.
        depth: the share of the layers, counted from the image, that is left as it is; like `teacher`, 0 where the scan names no class.
        flip: mirror images at random.
    """

    epochs: int = 25
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight: float = 0.5
    eps: float = 0.6
    steps: int = 3
    pixels: float = 0.5
    radius: float = 0.02
    patches: float = 0.5
    teacher: float = 0.9
    depth: float = 0.5
    batch: int = 64
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for values that nothing can be tuned with."""
        if self.epochs < 1:
            raise UsageError(f"--epochs {self.epochs}: expected at least 1")
        if not 0 < self.lr < inf:
            raise UsageError(f"--lr {self.lr:g}: expected a finite rate above 0")
        if not 0 <= self.weight < inf:
            raise UsageError(f"--lambda2 {self.weight:g}: expected a finite weight, at least 0")


def unguided(settings: Tuning) -> Tuning:
    """The same where nothing says which class a trigger pulls to: all layers are tuned by the labels alone, as in the paper.

    A teacher hands a backdoor on, but for the class that is left out of what it says; and noise that pulls nowhere has to reach further.
    """
    return replace(settings, teacher=0.0, depth=0.0)


def plain(settings: Tuning) -> Tuning:
    """The same without noise: plain fine-tuning of all layers."""
    return replace(unguided(settings), weight=0.0, pixels=0.0, patches=0.0)


# adversarial neuron pruning with the settings of its authors (Wu and Wang, NeurIPS 2021): alpha L + (1 - alpha) L under noise with alpha
# = 0.2 is alpha times this loss. They run 2000 batches at a rate of 0.2 alpha; few images make few batches, so it is five times that here
ANP = replace(plain(Tuning()), epochs=100, lr=0.2, weight=4.0, weight_decay=0.0, eps=0.4, steps=1, batch=128)


@torch.no_grad()
def suited(settings: Tuning, model: TracedModel, images: Tensor, labels: Tensor, most: float) -> Tuning:
    """The same with mirroring where the model loses at most `most` of its accuracy on mirror images, as on most data but signs and text."""
    axis = 3 if model.input.layout == "NCHW" else 2
    own, mirrored = (accuracy(model, {}, x, labels) for x in (images, images.flip(axis)))
    return replace(settings, flip=mirrored >= own - most)


@torch.no_grad()
def accuracy(model: TracedModel, weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> float:
    """Share of images [N, ...] that get their label with these of the file's weights in place of its own."""
    return float((predictions(model, weights, images) == labels).double().mean())


@torch.no_grad()
def predictions(model: TracedModel, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Classes [N], on the CPU, that these of the file's weights lead to."""
    return torch.cat([logits(model, weights, part).argmax(1).cpu() for part in images.split(MANY)])


def logits(model: TracedModel, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Logits [N, classes], on the model's device, with these of the file's weights in place of its own."""
    result: Tensor = functional_call(model.module, model.constants(weights), (images.to(model.device),))
    return result


@torch.no_grad()
def progress_on(model: TracedModel, state: State, images: Tensor, labels: Tensor) -> float:
    """Share of images [N, ...] that get their label in the form that is trained, by the statistics of their own batches."""
    shares = zip(parts(images), parts(labels), strict=True)
    right = [(Pass(model, state.values).run(x.to(model.device)).argmax(1).cpu() == y).sum() for x, y in shares]
    return float(sum(right)) / len(images)


def search(
    model: TracedModel, values: dict[str, Tensor], images: Tensor, goal: Tensor, sign: float, settings: Tuning, generator: torch.Generator
) -> Noise:
    """Eq. 4 for one batch: noise that raises (`sign` 1) or lowers (-1) the loss towards `goal`; sign steps from a random start."""
    still = {name: value.detach() for name, value in values.items()}
    names = [name.removeprefix("scale/") for name in values if name.startswith("scale/")]
    sizes = [len(values[f"scale/{name}"]) for name in names]
    flat = ((torch.rand(2 * sum(sizes), generator=generator) * 2 - 1) * settings.eps).to(model.device)

    def views() -> Noise:
        delta, xi = flat.chunk(2)
        return dict(zip(names, zip(delta.split(sizes), xi.split(sizes), strict=True), strict=True))

    for _ in range(settings.steps):
        flat.requires_grad_()
        loss = sign * F.cross_entropy(Pass(model, still, views()).run(images), goal)
        (gradient,) = torch.autograd.grad(loss, flat)
        flat = (flat.detach() + 2 * settings.eps / settings.steps * gradient.sign()).clamp(-settings.eps, settings.eps)
    return views()


def shifted(images: Tensor, change: Tensor, limits: Limits) -> Tensor:
    """Images [N, ...] with one change of their pixels, in units of the range between black and white, which they do not leave."""
    low, high = limits
    return low + (high - low) * ((images - low) / (high - low) + change).clamp(0, 1)


def nudged(
    model: TracedModel, values: dict[str, Tensor], images: Tensor, change: Tensor, goal: Tensor, sign: float, limits: Limits, radius: float
) -> Tensor:
    """The change [1, ...] of the pixels after one step that raises (`sign` 1) or lowers (-1) the loss towards `goal`.

    Batch norm sees the images beside their changed copies, or it would take the change off again.
    """
    change = change.detach().requires_grad_()
    still = {name: value.detach() for name, value in values.items()}
    moved = Pass(model, still).run(torch.cat((images, shifted(images, change, limits))))[len(images) :]
    (gradient,) = torch.autograd.grad(sign * F.cross_entropy(moved, goal), change)
    bound = radius * change.numel() ** 0.5
    stepped: Tensor = change.detach() + NUDGE * bound * gradient / length(gradient)
    project(stepped, bound)
    return stepped


def distance(model: TracedModel, images: Tensor, answers: Tensor, hidden: Tensor | None = None) -> Tensor:
    """How far the answers [N, classes] are from the given model's for the same images.

    TEMPERATURE^2 times the Kullback-Leibler divergence of the softened probabilities (Hinton et al., 2015, Eq. 4 and section 2.1), among
    the classes that are not `hidden` [N, classes].
    """
    with torch.no_grad():
        given = logits(model, {}, images)
    if hidden is not None:
        given, answers = (values.masked_fill(hidden, HIDDEN) for values in (given, answers))
    given = (given / TEMPERATURE).softmax(1)
    return TEMPERATURE**2 * F.kl_div((answers / TEMPERATURE).log_softmax(1), given, reduction="batchmean")


def attacked(goals: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Where the noise pulls each image [N, classes]; nowhere, where that is its own class.

    What the given model says of that class is a trace of the backdoor: many attacks raise its logit on clean images as well.
    """
    return F.one_hot(goals, classes).bool() & (goals != labels)[:, None]


def augment(images: Tensor, flip: bool, generator: torch.Generator, layout: str) -> Tensor:
    """Random crops after reflection and, if asked for, mirrored halves; images [N, ...] in the model's layout."""
    x = images if layout == "NCHW" else images.movedim(-1, 1)
    count, _, height, width = x.shape
    pads = height // CROP, width // CROP
    padded = F.pad(x, (pads[1], pads[1], pads[0], pads[0]), mode="reflect")
    index = torch.arange(count)[:, None, None]
    rows, columns = (
        torch.randint(0, 2 * pad + 1, (count, 1), generator=generator) + torch.arange(size)
        for pad, size in zip(pads, (height, width), strict=True)
    )
    x = padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    mirrored = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    x = _quick(torch.where(mirrored[:, None, None, None], x.flip(3), x))
    return x if layout == "NCHW" else x.movedim(1, -1)


def epoch(
    model: TracedModel,
    state: State,
    images: Tensor,
    labels: Tensor,
    settings: Tuning,
    *,
    limits: Limits,
    aims: Tensor | None = None,
    pasted: Tensor | None = None,
    told: Callable[[int], None] = lambda n: None,
) -> tuple[float, float]:
    """One pass over the images, in place on `state`; the mean loss on clean images and under neuron noise (NaN with lambda_2 = 0).

    Every epoch draws from its own seed, so a training that was interrupted goes on as if it had not been. All is drawn on the CPU, where
    images, labels and aims may stay: batches go to the model's device, and nothing waits for it before the losses are read at the end.

    Args:
        limits: what black and white pixels are to the model.
        aims: [classes], where the noise pulls the images of each class; None for noise that raises the loss, as Eq. 4 has it.
        pasted: [P, ...], patches as changes of pixels; every image of a batch is also shown with one of them.
        told: called with the number of images done.
    """
    generator, starts = (torch.Generator().manual_seed(settings.seed * 1_000_003 + state.epoch + offset) for offset in (0, 1 << 40))
    batches = torch.randperm(len(images), generator=generator).tensor_split(max(1, round(len(images) / settings.batch)))
    sums = torch.zeros(2, device=model.device)
    for number, batch in enumerate(batches):
        lr = settings.lr * 0.5 * (1 + cos(pi * (state.epoch + number / len(batches)) / settings.epochs))
        x = augment(images[batch], settings.flip, generator, model.input.layout).to(model.device)
        y = labels[batch].to(model.device)
        masks = [name for name in state.values if name.startswith("mask/")]
        trained = {name: _quick(state.values[name]).requires_grad_() for name in masks or state.values}
        values = {**state.values, **trained}
        goal, sign = (y, 1.0) if aims is None else (aims[labels[batch]].to(model.device), -1.0)
        copies, noisy = list[tuple[float, Tensor]](), torch.full((), torch.nan, device=model.device)
        if settings.weight and settings.pixels:
            if state.pixels is None:
                state.pixels = _first(x, settings).to(model.device)
            turn = (number + state.epoch * len(batches)) % TURNS
            change = nudged(model, values, x, state.pixels[turn : turn + 1], goal, sign, limits, settings.radius)
            state.pixels[turn : turn + 1] = change
            copies.append((settings.pixels, shifted(x, change, limits)))
        if settings.weight and pasted is not None:
            own = torch.randint(len(pasted), (len(x),), generator=generator).to(model.device)
            copies.append((settings.patches, shifted(x, pasted[own], limits)))
        seen, *changed = Pass(model, values).run(torch.cat((x, *(copy for _, copy in copies)))).split(len(x))
        loss = clean = F.cross_entropy(seen, y)
        if settings.weight and settings.teacher:
            hidden = None if aims is None else attacked(goal, y, seen.shape[1])
            loss = torch.lerp(clean, distance(model, x, seen, hidden), settings.teacher)
        if settings.weight:
            noise = search(model, values, x, goal, sign, settings, starts)
            noisy = F.cross_entropy(Pass(model, values, noise).run(x), y)
            loss = loss + settings.weight * noisy
            for (weight, _), answers in zip(copies, changed, strict=True):
                loss = loss + settings.weight * weight * F.cross_entropy(answers, y)
        _descend(state, trained, torch.autograd.grad(loss, list(trained.values())), lr, settings)
        sums += torch.stack((clean.detach(), noisy.detach())) * len(y)
        told(len(y))
    state.epoch += 1
    clean_mean, noisy_mean = (sums / len(images)).tolist()
    return clean_mean, noisy_mean


def _quick(value: Tensor) -> Tensor:
    """The same values [N, C, H, W] with the channels innermost, as convolutions are fastest with: a repair takes a fifth less time."""
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


@torch.no_grad()
def _descend(state: State, trained: dict[str, Tensor], gradients: Sequence[Tensor], lr: float, settings: Tuning) -> None:
    """One step of SGD with momentum and weight decay; masks stay between 0 and 1."""
    for (name, value), gradient in zip(trained.items(), gradients, strict=True):
        momentum = state.momenta.setdefault(name, torch.zeros_like(value))
        momentum.mul_(settings.momentum).add_(gradient + settings.weight_decay * value)
        stepped = (value - lr * momentum).detach()
        state.values[name] = stepped.clamp(0, 1) if name.startswith("mask/") else stepped


def _first(images: Tensor, settings: Tuning) -> Tensor:
    """Where the changes of the pixels start, [TURNS, ...]: small and random."""
    drawn = torch.randn(TURNS, *images.shape[1:], generator=torch.Generator().manual_seed(settings.seed))
    project(drawn, START * settings.radius * images[0].numel() ** 0.5)
    return drawn
