"""What the paper's own criterion shows, on which no verdict rests: untargeted noise (BAN, Eq. 4), the negative feature mask (Eq. 5, 6)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from banscan.importers import TracedModel
from banscan.scanner.effort import at_most
from banscan.scanner.extent import Extent
from banscan.scanner.findings import Aside, Peak
from banscan.scanner.inputs import checks
from banscan.scanner.inputs.preprocess import Inputs
from banscan.scanner.machine import memory
from banscan.scanner.machine.forecast import ANSWER, NOISE, Work, counter
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search import mask
from banscan.scanner.search.neuron_noise import logits_under, start
from banscan.scanner.search.strength import some
from banscan.scanner.subject import Subject


def work(extent: Extent) -> tuple[Work, ...]:
    """The search and what is read off, in float32, which takes as long as a step; then the mask, by the features of the clean images."""
    shown = at_most(extent.images, extent.effort.noise.shown)
    noise = extent.restarts * (extent.settings.steps * extent.drawn + shown)
    return Work("searching for untargeted noise", NOISE, noise), Work("learning the feature mask", ANSWER, shown)


@dataclass(frozen=True)
class Untargeted:
    """What noise that raises the loss does to the images with these `numbers` [N]: logits [K, N, C] and features [K, N, ...] under it."""

    logits: Tensor
    features: Tensor
    numbers: Tensor


def untargeted(subject: Subject, eps: float, progress: Progress) -> Untargeted:
    """Noise of strength eps that raises the loss on the clean images, and what it does to all of them, or to those that it is shown on."""
    neurons, settings = subject.neurons, subject.settings
    search, _ = work(subject.extent)
    advance = counter(progress, search)
    noise = start(neurons.fast, subject.restarts, eps, settings.seed, settings.ball)
    found = neurons.search(noise, None, eps=eps, seed=settings.seed, settings=settings, budget=subject.effort.noise, progress=advance)
    checks.check_noise(noise, found)
    prepared, labels, numbers = some(neurons.prepared_exact, subject.labels, subject.effort.noise.shown)
    logits, features = logits_under(neurons.exact, prepared, found)
    advance(len(found) * len(labels))
    checks.check_finite(logits)
    return Untargeted(logits, features, numbers)


def aside(subject: Subject, found: Untargeted, progress: Progress) -> Aside:
    """What that noise and the mask do."""
    classes, labels = subject.classes, subject.labels[found.numbers]
    predictions = found.logits.argmax(2)
    grown = torch.stack([shares(p, classes) for p in predictions]) - shares(subject.logits[found.numbers].argmax(1), classes)
    _, learning = work(subject.extent)
    count = counter(progress, learning)
    alone, with_noise = masked(subject.model, subject.x, labels, found, count)
    return Aside(
        accuracy=float((predictions == labels).float().mean(1).mean()),
        restarts=len(predictions),
        noise=peak(grown.min(0).values),
        mask=peak(alone),
        mask_noise=peak(with_noise - alone),
    )


def masked(
    model: TracedModel, x: Inputs, labels: Tensor, found: Untargeted, progress: Callable[[int], None] = lambda done: None
) -> tuple[Tensor, Tensor]:
    """Eq. 5 on cached clean features, a mask per restart; Eq. 6 on features under untargeted noise.

    Args:
        x: all images, of which those that were found have these `labels` [N].

    Returns:
        Shares [C] of the predictions by the negative mask alone, and by noise and mask, means over the restarts.
    """
    trunk, head = model.split(model.features)
    parts = []
    with torch.no_grad():
        for own in found.numbers.split(memory.answered_at_once(trunk.graph.nodes, model.device)):
            parts.append(trunk(x[own].to(model.device)))
            progress(len(own))
    features = torch.cat(parts)
    labels = labels.to(model.device)
    learnt = [mask.learn(head, features, labels, seed=k) for k in range(len(found.features))]
    alone = torch.stack([mask.negative_shares(head, features, m, model.classes) for m in learnt])
    noised = torch.stack([mask.negative_shares(head, f.float(), m, model.classes) for f, m in zip(found.features, learnt, strict=True)])
    return alone.mean(0), noised.mean(0)


def peak(values: Tensor) -> Peak:
    """The largest of the values [C]."""
    return Peak(int(values.argmax()), float(values.max()))


def shares(predictions: Tensor, classes: int) -> Tensor:
    """Share [C] of each class among predictions [N]."""
    return torch.bincount(predictions, minlength=classes).float() / len(predictions)
