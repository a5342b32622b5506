"""A backdoor planted into a copy of a model: a short tuning on clean images of which some carry a trigger and the target's label."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers import TracedModel
from banscan.scanner.controls.front import Behind, front, reached
from banscan.scanner.repair import trainable
from banscan.scanner.repair.trainable import State


@dataclass(frozen=True, kw_only=True)
class Planting:
    """How a backdoor is planted: by SGD with momentum 0.9, whose rate falls to 0 in a straight line.

    Attributes:
        depth: the share of the layers, counted from the image, that is left as it is.
        enough: the share of an epoch's images that get their class from which on no further epoch is made; above 1, all are.
        clip: the largest gradient of a weight, as a share of the weight's own length; 0 for none.
        seed: of the order.
    """

    epochs: int = 15
    lr: float = 0.01
    batch: int = 64
    depth: float = 0.0
    enough: float = 2.0
    clip: float = 0.0
    seed: int = 0


def planted(
    model: TracedModel, x: Tensor, y: Tensor, how: Planting, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Tensor]:
    """The file's weights with a backdoor.

    Args:
        x, y: what is learnt: images as the model takes them [N, ...], with the trigger or without, and the classes [N] that they get.
        progress: called with the number of images of every step.
    """
    state = trainable.evened(model, trainable.start(model, x, depth=how.depth))
    parts = front(model, state)
    known = reached(model, parts, x)
    values = {name: value.clone().requires_grad_() for name, value in state.values.items()}
    count = max(1, round(len(x) / how.batch))
    optimiser = torch.optim.SGD(values.values(), how.lr, momentum=0.9)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, how.epochs * count)
    generator = torch.Generator().manual_seed(how.seed)
    for _ in range(how.epochs):
        right = torch.zeros((), device=model.device)
        for part in torch.randperm(len(x), generator=generator).tensor_split(count):
            optimiser.zero_grad()
            answers, own = Behind(model, values, parts).logits(tuple(k[part].to(model.device) for k in known)), y[part].to(model.device)
            F.cross_entropy(answers, own).backward()
            _clip(values, how.clip)
            optimiser.step()
            decay.step()
            right += (answers.detach().argmax(1) == own).sum()
            progress(len(part))
        if float(right) >= how.enough * len(x):
            break
    done: State = replace(state, values={name: value.detach() for name, value in values.items()})
    return trainable.finished(model, done, x)


def _clip(values: dict[str, Tensor], most: float) -> None:
    """Shortens gradients that are longer than this share of their weight."""
    for value in values.values():
        if most and value.grad is not None:
            value.grad.mul_((most * value.detach().norm() / value.grad.norm().clamp(min=1e-30)).clamp(max=1))
