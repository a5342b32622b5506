"""PGD over neuron noise (BAN, Eq. 4): all restarts as one batch, or as many of them as memory has room for."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.kernels import chosen
from banscan.scanner.machine.cuda_graph import replay
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
    generator = torch.Generator().manual_seed(seed)
    noise, momentum = noise.to(model.device, copy=True), torch.zeros(noise.shape, device=model.device)
    bound = torch.tensor(eps, device=model.device)
    goals = (labels if target is None else target).to(model.device)
    count = min(batch, len(labels))
    group = max(1, model.at_once // count)
    advance = partial(_advance, model, sign=1.0 if target is None else -1.0, steps=steps, ball=ball)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < count:
            order = torch.randperm(len(labels), generator=generator)
        images, order = order[:count].to(model.device), order[count:]
        drawn = tuple(p[images] for p in prepared)
        for first in range(0, len(noise), group):
            rows = slice(first, first + group)
            own = noise[rows]
            goal = goals[images].repeat(len(own)) if target is None else goals[rows].repeat_interleave(count)
            replay(model.recorded, advance, (target is None, steps, ball), (own, momentum[rows]), (bound, goal, *drawn))
            progress(len(own) * count)
    return noise


def _advance(
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
    part = noise.detach().requires_grad_()
    logits, _ = model.run(drawn, part)
    loss = sign * F.cross_entropy(logits, goal, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, part)
    chosen(model.device).ascend(noise, gradient, momentum, eps=eps, steps=steps, ball=ball)


@torch.no_grad()
def logits_under(model: NoisyModel, prepared: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [K, N, classes], on the CPU, and features [K, N, ...] of N prepared images under noise [K, D].

    Every restart sees all images as one batch, as the statistics of the normalised form ask for.
    """
    results = [model.run(prepared, row) for row in noise.split(1)]
    return torch.stack([y.cpu() for y, _ in results]), torch.stack([f for _, f in results])
