"""What the paper's own criterion shows, on which no verdict rests: untargeted noise (BAN, Eq. 4), the negative feature mask (Eq. 5, 6)."""

import torch
from torch import Tensor

from banscan.importers import TracedModel
from banscan.scanner.effort import at_most
from banscan.scanner.findings import Aside, Peak
from banscan.scanner.inputs import checks
from banscan.scanner.machine import memory
from banscan.scanner.machine.progress import Counter, Progress
from banscan.scanner.search import mask
from banscan.scanner.search.neuron_noise import logits_under, start
from banscan.scanner.subject import Subject


def untargeted(subject: Subject, eps: float, progress: Progress) -> tuple[Tensor, Tensor]:
    """Logits [K, N, C] and features [K, N, ...] under noise of strength eps that raises the loss on the clean images."""
    neurons, settings = subject.neurons, subject.settings
    passes = subject.restarts * settings.steps * min(at_most(settings.images, subject.effort.noise.images), len(subject.labels))
    advance = Counter(progress, "searching for untargeted noise", passes)
    noise = start(neurons.fast, subject.restarts, eps, settings.seed, settings.ball)
    found = neurons.search(noise, None, eps=eps, seed=settings.seed, settings=settings, budget=subject.effort.noise, progress=advance)
    checks.check_noise(noise, found)
    logits, features = logits_under(neurons.exact, neurons.prepared_exact, found)
    checks.check_finite(logits)
    return logits, features


def aside(subject: Subject, logits: Tensor, features: Tensor) -> Aside:
    """What that noise and the mask do; arguments as `untargeted` returns them."""
    classes = subject.classes
    predictions = logits.argmax(2)
    grown = torch.stack([shares(p, classes) for p in predictions]) - shares(subject.logits.argmax(1), classes)
    alone, with_noise = masked(subject.model, subject.x, subject.labels, features)
    return Aside(
        accuracy=float((predictions == subject.labels).float().mean(1).mean()),
        restarts=len(predictions),
        noise=peak(grown.min(0).values),
        mask=peak(alone),
        mask_noise=peak(with_noise - alone),
    )


def masked(model: TracedModel, x: Tensor, labels: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 5 on cached clean features, a mask per restart; Eq. 6 on features [K, N, ...] under untargeted noise.

    Returns:
        Shares [C] of the predictions by the negative mask alone, and by noise and mask, means over the restarts.
    """
    trunk, head = model.split(model.features)
    with torch.no_grad():
        features = torch.cat([trunk(part.to(model.device)) for part in x.split(memory.answered_at_once(trunk.graph.nodes, model.device))])
    labels = labels.to(model.device)
    learnt = [mask.learn(head, features, labels, seed=k) for k in range(len(noisy))]
    alone = torch.stack([mask.negative_shares(head, features, m, model.classes) for m in learnt])
    noised = torch.stack([mask.negative_shares(head, f.float(), m, model.classes) for f, m in zip(noisy, learnt, strict=True)])
    return alone.mean(0), noised.mean(0)


def peak(values: Tensor) -> Peak:
    """The largest of the values [C]."""
    return Peak(int(values.argmax()), float(values.max()))


def shares(predictions: Tensor, classes: int) -> Tensor:
    """Share [C] of each class among predictions [N]."""
    return torch.bincount(predictions, minlength=classes).float() / len(predictions)
