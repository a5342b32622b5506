"""What is timed: searches of one network by every contender, and whole detections."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from banscan.scanner.aside import untargeted
from banscan.scanner.criteria import noise, noise_map
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.machine.memory import TRACED, values
from banscan.scanner.machine.progress import silent
from banscan.scanner.search import mask, neuron_noise
from banscan.scanner.search.noisy_model import NoisyModel, attach, layers, measure
from banscan.scanner.settings import Settings
from banscan.scanner.subject import prepare
from bench.speed import eager, published
from bench.speed.subject import Subject

# a strength that moves a network's features without overflow; the time does not depend on it
EPS = 0.2
LAYERS = {"deepest quarter": Settings().layers_without, "all layers": 0.0}


@dataclass(frozen=True)
class Work:
    """One thing to time; what is prepared for it beforehand does not count.

    Attributes:
        passes: images computed forward and backward.
        operations, bytes: the least that the noisy part takes, None where it is not known.
    """

    run: Callable[[], object]
    passes: int
    operations: int | None = None
    bytes: int | None = None


def ours(subject: Subject, where: str, dtype: torch.dtype, restarts: int, images: int, steps: int) -> Work:
    """The search of a scan."""
    x, labels = subject.images(images)
    neurons = layers(subject.model, LAYERS[where])
    model = attach(subject.model, neurons, measure(subject.model, neurons, x), dtype)
    cached = model.prepare(x)
    noise = neuron_noise.start(model, restarts, EPS, 0, "l2")

    def run() -> Tensor:
        return neuron_noise.search(model, cached, labels, noise, eps=EPS, steps=steps, batch=images, seed=0, ball="l2")

    times = restarts * steps
    return Work(run, times * images, times * _operations(model, cached, labels), times * images * _bytes(subject, model))


def _operations(model: NoisyModel, cached: tuple[Tensor, ...], labels: Tensor) -> int:
    """Floating-point operations of one step of one restart, as torch counts them."""
    noise = neuron_noise.start(model, 1, EPS, 0, "l2").requires_grad_()
    with FlopCounterMode(display=False) as counter:
        logits, _ = model.run(cached, noise)
        torch.autograd.grad(F.cross_entropy(logits, labels.to(model.device)), noise)
    return int(counter.get_total_flops())


def _bytes(subject: Subject, model: NoisyModel) -> int:
    """Bytes of one image that must move: a layer's output is written and read, and so is its gradient."""
    noisy = {n.node for n in model.neurons}
    return 4 * model.dtype.itemsize * sum(values(n) for n in subject.model.module.graph.nodes if n.name in noisy) // TRACED


def plain(subject: Subject, where: str, restarts: int, images: int, steps: int, *, compiled: bool) -> Work:
    """The same search in plain PyTorch, or with its network through torch.compile."""
    x, labels = (t.to(subject.device) for t in subject.images(images))
    neurons = layers(subject.model, LAYERS[where])
    network = eager.perturbed(subject.model, neurons, measure(subject.model, neurons, x))
    noise = torch.randn(restarts, 2 * sum(n.channels for n in neurons), device=subject.device) * (0.5 * EPS)
    used = eager.compiled(network) if compiled else network

    def run() -> Tensor:
        return eager.search(used, x, labels, noise, eps=EPS, steps=steps, batch=images)

    return Work(run, restarts * images * steps)


def detection(subject: Subject, images: int) -> Work:
    """The published procedure from images to the shares of classes: noise, mask, negative mask."""
    x, labels = (t.to(subject.device) for t in subject.images(images))

    def run() -> Tensor:
        return published.detect(subject.module, x, labels)

    passes = images * published.STEPS + images * published.EPOCHS * 2
    return Work(run, passes)


def every_class(subject: Subject, where: str, dtype: torch.dtype, images: int) -> Work:
    """All noise searches of a scan: for the strength, untargeted, and towards every class with every restart."""
    x, labels = subject.images(images)
    with torch.no_grad():
        clean = torch.cat([subject.model.logits(part).cpu() for part in x.split(250)])
    settings = Settings(pixels=False)
    ready = prepare(subject.model, Preprocess("unit"), x, labels, clean, settings, dtype)

    def run() -> None:
        found = noise.measure(ready, {}, silent)
        assert isinstance(found, noise.Moved)
        untargeted(ready, found.eps, silent)
        noise_map.measure(ready, {"noise": found}, silent)

    rows = settings.restarts * (1 + len(ready.searched))
    return Work(run, rows * settings.steps * settings.images)


def our_detection(subject: Subject, where: str, dtype: torch.dtype, images: int, restarts: int) -> Work:
    """The same from images to shares: statistics, one search for all batches, the mask on features computed once, float32 at the end."""
    x, labels = subject.images(images)

    def run() -> Tensor:
        neurons = layers(subject.model, LAYERS[where])
        stats = measure(subject.model, neurons, x)
        exact, quick = attach(subject.model, neurons, stats), attach(subject.model, neurons, stats, dtype)
        noise = neuron_noise.start(quick, restarts, EPS, 0, "l2")
        found = neuron_noise.search(
            quick, quick.prepare(x), labels, noise, eps=EPS, steps=published.STEPS, batch=published.BATCH, seed=0, ball="l2"
        )
        _, noisy = neuron_noise.logits_under(exact, exact.prepare(x), found)
        trunk, head = subject.model.split(subject.model.features)
        with torch.no_grad():
            features = torch.cat([trunk(part.to(subject.device)) for part in x.split(250)])
        own = mask.learn(head, features, labels.to(subject.device), epochs=published.EPOCHS)
        return torch.stack([mask.negative_shares(head, f, own, subject.classes) for f in noisy])

    return Work(run, restarts * published.BATCH * published.STEPS)
