"""What a model answers with other weights in place of the file's own, and how often that is right."""

import torch
from torch import Tensor
from torch.func import functional_call

from banscan.importers import TracedModel
from banscan.scanner.machine.memory import answered_at_once
from banscan.scanner.repair.trainable import Pass, State, parts


def logits(model: TracedModel, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Logits [N, classes], on the model's device, with these of the file's weights in place of its own."""
    result: Tensor = functional_call(model.module, model.constants(weights), (images.to(model.device),))
    return result


@torch.no_grad()
def predictions(model: TracedModel, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Classes [N], on the CPU, that these of the file's weights lead to."""
    several = images.split(answered_at_once(model.module.graph.nodes, model.device))
    return torch.cat([logits(model, weights, part).argmax(1).cpu() for part in several])


@torch.no_grad()
def accuracy(model: TracedModel, weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> float:
    """Share of images [N, ...] that get their label [N] with these of the file's weights in place of its own."""
    return float((predictions(model, weights, images) == labels).double().mean())


@torch.no_grad()
def accuracy_so_far(model: TracedModel, state: State, images: Tensor, labels: Tensor) -> float:
    """Share of images [N, ...] that get their label [N] in the form that is trained, by the statistics of their own batches."""
    shares = zip(parts(images), parts(labels), strict=True)
    right = [(Pass(model, state.values).run(x.to(model.device)).argmax(1).cpu() == y).sum() for x, y in shares]
    return float(sum(right)) / len(images)
