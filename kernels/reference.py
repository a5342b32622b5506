"""The noise in plain differentiable torch: the ground truth for every other backend, in any dtype and on any device."""

import torch
from torch import Tensor

# Relative to the clean variance: keeps gradients finite where the noise further up has made a channel constant.
EPS = 1e-5


def perturb(
    z: Tensor,
    bias: Tensor | None,
    delta: Tensor,
    xi: Tensor,
    stats: Tensor | None = None,
    act: str | None = None,
    *,
    axis: int = 1,
    shared: bool = False,
) -> Tensor:
    """Noise on the neurons whose pre-activations without bias are `z`.

    Args:
        z: [K * N, ...] with the restarts outermost, or [N, ...] when `shared`: all K restarts then see the same pre-activations.
        bias: [C] or None. The normalised form does not read it: the batch mean takes it out again.
        delta, xi: [K, C], the multiplicative noise on weights and biases (BAN, Eq. 3).
        stats: None for Eq. 3, y = act((1 + delta) z + (1 + xi) b). Otherwise [2, C], the clean mean m and standard deviation s of
            z + b, for the normalised form y = act(m + s (xi + (1 + delta) (z - mu) / sigma)) with mu and sigma of each restart's batch.
        act: "relu" or None.
        axis: where the C channels are in z.

    Returns:
        [K * N, ...]. In the normalised form a channel with s = 0 stays at m.

    Raises:
        ValueError: for an unknown activation.
    """
    restarts, channels = delta.shape
    z = z.movedim(axis, 1)
    z = z[None].expand(restarts, *z.shape) if shared else z.unflatten(0, (restarts, -1))
    per_channel = (1, 1, channels, *(1,) * (z.ndim - 3))
    per_restart = (restarts, *per_channel[1:])
    scale = (1 + delta).reshape(per_restart)
    if stats is None:
        y = scale * z
        if bias is not None:
            y = y + (1 + xi).reshape(per_restart) * bias.reshape(per_channel)
    else:
        mean, std = (row.reshape(per_channel) for row in stats)
        dims = [d for d in range(1, z.ndim) if d != 2]
        var, mu = torch.var_mean(z, dims, correction=0, keepdim=True)
        # where s = 0 any positive floor does: the term is multiplied by s
        floor = torch.where(std > 0, EPS * std**2, torch.ones_like(std))
        y = mean + std * (xi.reshape(per_restart) + scale * (z - mu) / (var + floor).sqrt())
    return activate(y.flatten(0, 1).movedim(1, axis), act)


def activate(y: Tensor, act: str | None) -> Tensor:
    """The activation behind a neuron; None is the identity."""
    if act is None:
        return y
    if act == "relu":
        return y.relu()
    raise ValueError(f"unknown activation {act!r}; expected 'relu' or None")
