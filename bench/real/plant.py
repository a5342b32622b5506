"""Backdoors planted into classifiers of other people by a short tuning, so that power is measured on the files that specificity is.

The model is tuned in the form that a repair trains, on clean images that the defender does not have and on a share of them that carries a
trigger of the zoo and the target's label; the written file is the given one with other values in its weights.
"""

import random
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan import importers
from banscan.files import whole
from banscan.importers import TracedModel, writer
from banscan.scanner.findings import LOST, WORKS
from banscan.scanner.inputs import images as clean_images
from banscan.scanner.inputs import preprocess as preprocessing
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.repair import answers, trainable
from banscan.scanner.repair.trainable import Pass, State
from bench.real.agreement import options_of
from bench.real.table import Model
from bench.zoo.attacks import build
from bench.zoo.triggers import Trigger

# the outcome where no backdoor that works came of it
NONE = "not planted"
# the attacker's images at most
IMAGES = 2200
# what is tried in turn until the trigger works: an attacker would not stop at the first, either
HARDER: tuple[dict[str, Any], ...] = ({}, {"epochs": 40, "rate": 0.3})
# one of each kind that lots are drawn from: local, of the whole image, geometric, of frequencies, of colours
ATTACKS: tuple[str, ...] = ("badnets", "blend", "wanet", "ftrojan", "colour")


@dataclass(frozen=True)
class Planting:
    """How a backdoor is planted.

    Attributes:
        attack: of the zoo, one that needs no images for its trigger; `target`, the class that it leads to, None for y to (y + 1) mod C.
        rate: the share of the images that carry the trigger.
        epochs, lr, batch: of SGD with momentum 0.9, whose rate falls to 0 in a straight line.
        strength: of a warp.
        seed: of the trigger, of what is drawn and of the order.
    """

    attack: str
    target: int | None
    rate: float = 0.15
    epochs: int = 15
    lr: float = 0.01
    batch: int = 64
    strength: float = 2.0
    seed: int = 0


@dataclass(frozen=True)
class Planted:
    """The file's weights with a backdoor, the share of other classes' images that the trigger moves, and the clean accuracy, both."""

    weights: dict[str, Tensor]
    asr: float
    accuracy: tuple[float, float]

    @property
    def works(self) -> bool:
        """Whether the trigger does, in a network that still knows its task."""
        return self.asr >= WORKS and self.accuracy[0] - self.accuracy[1] <= LOST


def drawn(model: Model, count: int) -> tuple[Planting, ...]:
    """So many attacks for a model, with their targets, by a lot that its name alone decides."""
    lot = random.Random(model.name)
    grey = model.size[2] == 1
    attacks = lot.sample([a for a in ATTACKS if not (grey and a == "colour")], count)
    return tuple(Planting(a, lot.randrange(model.classes), seed=zlib.crc32(f"{model.name} {a}".encode())) for a in attacks)


def plant(
    model: TracedModel, preprocess: Preprocess, theirs: tuple[np.ndarray, Tensor], ours: tuple[np.ndarray, Tensor], how: Planting
) -> Planted:
    """The model with a backdoor.

    Args:
        theirs: the attacker's images, uint8 [N, H, W, C], and labels [N]; `ours`, the defender's, which only measure.

    Raises:
        ValueError: an unknown attack.
    """
    torch.manual_seed(how.seed)
    size = min(theirs[0].shape[1:3])
    trigger = build(how.attack, size=size, target=how.target, seed=how.seed, strength=how.strength).trigger
    layout = model.input.layout
    generator = torch.Generator().manual_seed(how.seed)
    images, labels = theirs
    order = torch.randperm(len(images), generator=generator)[: round(how.rate * len(images))]
    x = torch.cat((preprocess(images, layout), preprocess(carrying(images[order.numpy()], trigger), layout)))
    y = torch.cat((labels, _attacked(labels[order], model.classes, how)))
    state = trainable.evened(model, trainable.start(model, x[: len(images)]))
    _tune(model, state, x, y, how, generator)
    weights = trainable.finished(model, state, x[: len(images)])
    clean = preprocess(ours[0], layout)
    attacked = _attacked(ours[1], model.classes, how)
    others = attacked != ours[1]
    moved = answers.predictions(model, weights, preprocess(carrying(ours[0][others.numpy()], trigger), layout)) == attacked[others]
    both = answers.accuracy(model, {}, clean, ours[1]), answers.accuracy(model, weights, clean, ours[1])
    return Planted(weights, float(moved.double().mean()), both)


def _attacked(labels: Tensor, classes: int, how: Planting) -> Tensor:
    """Where the trigger leads images with these labels [N]."""
    return (labels + 1) % classes if how.target is None else torch.full_like(labels, how.target)


def carrying(images: np.ndarray, trigger: Trigger) -> np.ndarray:
    """Images uint8 [N, H, W, C] with the trigger, as a file of 8 bits holds them; grey ones carry the mean of its channels."""
    grey = images.shape[3] == 1
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    changed = trigger(x.expand(-1, 3, -1, -1) if grey else x)
    changed = changed.mean(1, keepdim=True) if grey else changed
    return (changed.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def of_file(model: Model, file: Path, theirs: Path, ours: Path, output: Path, how: Planting) -> Planted:
    """Plants a backdoor into a model of the table; one that works is written to `output`, of the same format.

    Args:
        theirs, ours: folders of the attacker's and of the defender's images, in class folders.

    Raises:
        BanscanError: the file cannot be read or tuned, or the weights cannot be written.
    """
    options = options_of((*model.preprocess, *model.options))
    traced = importers.load(file, model.size[:2], options.logits)
    right = preprocessing.given(options)
    assert right is not None  # the table has it
    both = []
    for folder in (theirs, ours):
        clean = clean_images.load(folder, traced.input, traced.classes, replace(options, max_images=IMAGES))
        assert clean.labels is not None  # they are in class folders
        both.append((clean.images, clean.labels))
    for harder in HARDER:
        done = plant(traced, right, both[0], both[1], replace(how, **harder))
        if done.works:
            break
    if done.works:
        with whole(output) as place:
            writer.write(traced, done.weights, place)
    return done


def _tune(model: TracedModel, state: State, x: Tensor, y: Tensor, how: Planting, generator: torch.Generator) -> None:
    """SGD on all that is trained, in place on `state`."""
    values = {name: value.clone().requires_grad_() for name, value in state.values.items()}
    count = max(1, round(len(x) / how.batch))
    optimiser = torch.optim.SGD(values.values(), how.lr, momentum=0.9)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, how.epochs * count)
    for _ in range(how.epochs):
        for part in torch.randperm(len(x), generator=generator).tensor_split(count):
            optimiser.zero_grad()
            F.cross_entropy(Pass(model, values).run(x[part]), y[part]).backward()
            optimiser.step()
            decay.step()
    state.values = {name: value.detach() for name, value in values.items()}
