"""PGD over neuron noise (BAN, Eq. 4): all restarts as one batch, or as many of them as memory has room for."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.kernels import chosen
from banscan.scanner.machine.cuda_graph import replay
from banscan.scanner.search.ascent import Drawn, climb, gradient_at
from banscan.scanner.search.noisy_model import NoisyModel


def start(model: NoisyModel, restarts: int, eps: float, seed: int, ball: str) -> Tensor:
    """Random noise [K, D] to start from; restart k is the same whatever K is.

    "linf": uniform in [-eps, eps]. "l2": a random direction of half the ball's radius, eps sqrt(D).
    """
    rows = []
    for k in range(restarts):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + k)
        if ball == "linf":
            rows.append((torch.rand(model.size, generator=generator) * 2 - 1) * eps)
        else:
            direction = torch.randn(model.size, generator=generator)
            rows.append(direction * (0.5 * eps * model.size**0.5 / direction.norm()))
    return torch.stack(rows).to(model.device)


def search(
    model: NoisyModel,
    prepared: tuple[Tensor, ...],
    labels: Tensor,
    noise: Tensor,
    *,
    eps: float,
    steps: int,
    batch: int,
    seed: int,
    ball: str,
    target: Tensor | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Noise in the ball that raises the loss on clean images, or lowers it towards each restart's target.

    Args:
        prepared, labels: `NoisyModel.prepare` of N images, and [N]; each step draws `batch` of them, the same for every restart.
        noise: the start, [K, D].
        target: [K], the class that each restart is pulled to; None raises the cross-entropy of the labels (Eq. 4).
        progress: called with the number of image passes that each piece of work took.

    Returns:
        Noise [K, D].
    """
    bound = torch.tensor(eps, device=model.device)
    goals = (labels if target is None else target).to(model.device)
    count = min(batch, len(labels))
    numbers = batches(count, len(labels), torch.Generator().manual_seed(seed))
    stepped = partial(_step, model, sign=1.0 if target is None else -1.0, steps=steps, ball=ball)

    def draw() -> Drawn:
        images = next(numbers).to(model.device)
        return images, *(p[images] for p in prepared)

    def advance(rows: Tensor, momentum: Tensor, own: slice, drawn: Drawn) -> None:
        images, *parts = drawn
        goal = goals[images].repeat(len(rows)) if target is None else goals[own].repeat_interleave(count)
        replay(model.recorded, stepped, (target is None, steps, ball), (rows, momentum), (bound, goal, *parts))

    return climb(noise.to(model.device), advance, steps=steps, draw=draw, images=count, at_once=model.at_once, progress=progress)


def batches(count: int, total: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Numbers [count] of images without end, in one random order of them all after the other; what is left of an order is dropped."""
    while True:
        yield from torch.randperm(total, generator=generator)[: total - total % count].split(count)


def _step(
    model: NoisyModel,
    noise: Tensor,
    momentum: Tensor,
    eps: Tensor,
    goal: Tensor,
    *drawn: Tensor,
    sign: float,
    steps: int,
    ball: str,
) -> None:
    """One step of `search` for some restarts, noise and momentum in place; nothing in here waits for the device."""
    found = gradient_at(lambda part: sign * F.cross_entropy(model.run(drawn, part)[0], goal, reduction="sum"), noise)
    chosen(model.device).ascend(noise, found, momentum, eps=eps, steps=steps, ball=ball)


@torch.no_grad()
def logits_under(model: NoisyModel, prepared: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [K, N, classes], on the CPU, and features [K, N, ...] of N prepared images under noise [K, D].

    Every restart sees all images as one batch, as the statistics of the normalised form ask for; those of which memory has no room for all
    as a few batches that each have images from everywhere.
    """
    count = len(prepared[0])
    parts = -(-count // model.together)
    logits, features = zip(*(_seen(model, tuple(p[first::parts] for p in prepared), noise) for first in range(parts)), strict=True)
    if parts == 1:
        return logits[0], features[0]
    back = torch.cat([torch.arange(first, count, parts) for first in range(parts)]).argsort()
    return torch.cat(logits, 1)[:, back], torch.cat(features, 1)[:, back.to(model.device)]


def _seen(model: NoisyModel, prepared: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
    """`logits_under`, as one batch."""
    results = [model.run(prepared, row) for row in noise.split(1)]
    return torch.stack([y.cpu() for y, _ in results]), torch.stack([f for _, f in results])
