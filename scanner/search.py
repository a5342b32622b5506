"""PGD over neuron noise (BAN, Eq. 4): all restarts as one batch, start, sign step, projection."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.noise import NoisyModel

# images of all restarts together that are in memory at once
BATCH = 512


def start(model: NoisyModel, restarts: int, eps: float, seed: int) -> Tensor:
    """Noise [K, D], uniform in [-eps, eps]; restart k is the same whatever K is."""
    rows = [torch.rand(model.size, generator=torch.Generator().manual_seed(seed * 1_000_003 + k)) for k in range(restarts)]
    return (torch.stack(rows) * 2 - 1) * eps


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
    target: Tensor | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Noise within [-eps, eps] that raises the loss on clean images, or lowers it towards each restart's target.

    Args:
        prepared, labels: `NoisyModel.prepare` of N images, and [N]; each step draws `batch` of them, the same for every restart.
        noise: the start, [K, D].
        target: [K], the class that each restart is pulled to; None raises the cross-entropy of the labels (Eq. 4).
        progress: called with the number of image passes that each piece of work took.

    Returns:
        Noise [K, D].
    """
    generator = torch.Generator().manual_seed(seed)
    noise = noise.clone()
    group = max(1, BATCH // min(batch, len(labels)))
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < min(batch, len(labels)):
            order = torch.randperm(len(labels), generator=generator)
        chosen, order = order[:batch], order[batch:]
        drawn = tuple(p[chosen] for p in prepared)
        for first in range(0, len(noise), group):
            part = noise[first : first + group].detach().requires_grad_()
            logits, _ = model.run(drawn, part)
            if target is None:
                goal, sign = labels[chosen].repeat(len(part)), 1.0
            else:
                goal, sign = target[first : first + group].repeat_interleave(len(chosen)), -1.0
            loss = sign * F.cross_entropy(logits, goal, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, part)
            noise[first : first + group] += eps / steps * gradient.sign()
            progress(len(part) * len(chosen))
        noise.clamp_(-eps, eps)
    return noise


@torch.no_grad()
def logits_under(model: NoisyModel, prepared: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [K, N, classes] and features [K, N, ...] of N prepared images under noise [K, D].

    Every restart sees all images as one batch, as the statistics of the normalised form ask for.
    """
    results = [model.run(prepared, row) for row in noise.split(1)]
    return torch.stack([y for y, _ in results]), torch.stack([f for _, f in results])
