"""PGD over neuron noise (BAN, Eq. 4): all restarts as one batch, start, step, projection."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.ball import length, project
from banscan.scanner.noise import NoisyModel

# images of all restarts together that are computed at once; much larger groups fall out of a CPU's cache
BATCH = 512


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
    return torch.stack(rows)


def step(noise: Tensor, gradient: Tensor, momentum: Tensor, *, eps: float, steps: int, ball: str) -> None:
    """One ascent step on noise [K, D] in place, then the projection.

    "linf": eps / steps along the sign, clipped to [-eps, eps] (Eq. 4 by PGD). "l2": twice the radius / steps along the gradient with
    momentum 0.5, then back to the ball of radius eps sqrt(D).
    """
    if ball == "linf":
        noise.add_(gradient.sign(), alpha=eps / steps).clamp_(-eps, eps)
        return
    radius = eps * noise.shape[1] ** 0.5
    momentum.mul_(0.5).add_(gradient / length(gradient))
    noise.add_(momentum / length(momentum), alpha=2 * radius / steps)
    project(noise, radius)


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
    noise, momentum = noise.clone(), torch.zeros_like(noise)
    count = min(batch, len(labels))
    group = max(1, BATCH // count)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < count:
            order = torch.randperm(len(labels), generator=generator)
        chosen, order = order[:count], order[count:]
        drawn = tuple(p[chosen] for p in prepared)
        for first in range(0, len(noise), group):
            rows = slice(first, first + group)
            part = noise[rows].detach().requires_grad_()
            logits, _ = model.run(drawn, part)
            if target is None:
                goal, sign = labels[chosen].repeat(len(part)), 1.0
            else:
                goal, sign = target[rows].repeat_interleave(count), -1.0
            loss = sign * F.cross_entropy(logits, goal, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, part)
            step(noise[rows], gradient, momentum[rows], eps=eps, steps=steps, ball=ball)
            progress(len(part) * count)
    return noise


@torch.no_grad()
def logits_under(model: NoisyModel, prepared: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [K, N, classes] and features [K, N, ...] of N prepared images under noise [K, D].

    Every restart sees all images as one batch, as the statistics of the normalised form ask for.
    """
    results = [model.run(prepared, row) for row in noise.split(1)]
    return torch.stack([y for y, _ in results]), torch.stack([f for _, f in results])
