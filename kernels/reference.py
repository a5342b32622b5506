"""The noise in plain differentiable torch: the ground truth for every other backend, in any dtype and on any device."""

import torch
from torch import Tensor

from banscan.kernels.ball import length, project
from banscan.kernels.noise import LayerNoise, Twice

# In units of the clean variance: keeps gradients finite where the noise further up has made a channel constant.
EPS = 1e-5
# of the ascent in the L2 ball
MOMENTUM = 0.5


def perturb(z: Tensor, noise: LayerNoise, *, axis: int = 1) -> Twice:
    """Noise on the neurons whose pre-activations without bias are `z`.

    Args:
        z: [K * N, ...] with the restarts outermost, or [N, ...] where the noise is `shared`.
        axis: where the C channels are in z.

    Returns:
        [K * N, ...] in the type of z, twice; computed in that of delta.
    """
    restarts, channels = noise.delta.shape
    given = z.dtype
    z = z.to(noise.delta.dtype).movedim(axis, 1)
    z = z[None].expand(restarts, *z.shape) if noise.shared else z.unflatten(0, (restarts, -1))
    per_channel = (1, 1, channels, *(1,) * (z.ndim - 3))
    per_restart = (restarts, *per_channel[1:])
    scale = (1 + noise.delta).reshape(per_restart)
    if noise.stats is None:
        y = scale * z
        if noise.bias is not None:
            y = y + (1 + noise.xi).reshape(per_restart) * noise.bias.reshape(per_channel)
    else:
        mean, std = (row.reshape(per_channel) for row in noise.stats)
        dims = [d for d in range(1, z.ndim) if d != 2]
        var, mu = torch.var_mean(z, dims, correction=0, keepdim=True)
        y = mean + std * (noise.xi.reshape(per_restart) + scale * (z - mu) / (var + EPS).sqrt())
    y = y.flatten(0, 1).movedim(1, axis)
    if noise.residual is not None:
        y = y + noise.residual
    y = (y.relu() if noise.act == "relu" else y).to(given)
    return y, y


def units(weight: Tensor, stats: Tensor) -> Tensor:
    """Weights [C, ...] whose pre-activations are in units of the clean deviation s in stats [2, C]; channels with s = 0 stay."""
    std = torch.where(stats[1] > 0, stats[1], torch.ones_like(stats[1]))
    return weight / std.reshape(-1, *(1,) * (weight.dim() - 1))


def ascend(noise: Tensor, gradient: Tensor, momentum: Tensor, *, eps: Tensor, steps: int, ball: str) -> None:
    """One ascent step on noise [K, D] in place, then the projection; `momentum` [K, D] is the state between steps.

    "linf": eps / steps along the sign, clipped to [-eps, eps] (BAN, Eq. 4 by PGD). "l2": twice the radius / steps along the gradient with
    momentum 0.5, then back to the ball of radius eps sqrt(D). eps is a tensor of one value, so that nothing waits for it.

    Raises:
        ValueError: for an unknown ball.
    """
    if ball == "linf":
        noise.add_(gradient.sign() * (eps / steps)).clamp_(-eps, eps)
    elif ball == "l2":
        radius = eps * noise.shape[1] ** 0.5
        momentum.mul_(MOMENTUM).add_(gradient / length(gradient))
        noise.add_(momentum * (2 * radius / steps / length(momentum)))
        project(noise, radius)
    else:
        raise ValueError(f"unknown ball {ball!r}; expected 'linf' or 'l2'")
