"""The noise on a CPU: one fused pass each way by torch's own batch-norm kernels, restart by restart in one buffer.

Eval-mode batch norm with weight (1 + delta) and bias (1 + xi) b is Eq. 3; training-mode batch norm with weight s (1 + delta) and bias
m + s xi is the normalised form. Both give the sums behind grad delta and grad xi for free. With the activation fused nothing is
stored but z and y, and no weight gradient is ever formed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from banscan.kernels import reference
from banscan.kernels.noise import LayerNoise, Twice

aten = torch.ops.aten


def perturb(z: Tensor, noise: LayerNoise, *, axis: int = 1) -> Twice:
    """As `reference.perturb`; z and residual float32 or bfloat16, everything else float32."""
    rows = _suited(z, axis)
    residual = None if noise.residual is None else _suited(noise.residual, axis)
    y: Tensor = _Perturb.apply(rows, noise.delta, noise.xi, residual, noise)  # type: ignore[no-untyped-call]
    last = axis in (-1, z.ndim - 1)
    y = y.reshape(-1, *z.shape[1:]) if last else y.reshape(-1, *z.movedim(axis, 1).shape[1:]).movedim(1, axis)
    return y, y


def _suited(x: Tensor, axis: int) -> Tensor:
    """As torch's kernels take it: [N, C] with the rows of a token tensor in one, or [N, C, H, W] in either memory format."""
    if axis in (-1, x.ndim - 1):
        return x.reshape(-1, x.shape[-1])
    moved = x.movedim(axis, 1)
    maps = moved.flatten(2)[..., None] if moved.ndim != 4 else moved
    return maps if maps.is_contiguous(memory_format=torch.channels_last) else maps.contiguous()


def _format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.ndim == 4 and not x.is_contiguous() else torch.contiguous_format


class _Perturb(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        z: Tensor,
        delta: Tensor,
        xi: Tensor,
        residual: Tensor | None,
        noise: LayerNoise,
    ) -> Tensor:
        """What gets a gradient is an argument of its own; the rest of the noise is read off `noise`."""
        restarts, channels = delta.shape
        stats, shared, relu = noise.stats, noise.shared, noise.act == "relu"
        count = z.shape[0] if shared else z.shape[0] // restarts
        if stats is None:
            own = torch.zeros_like(delta[0]) if noise.bias is None else noise.bias
            weight, shift = 1 + delta, (1 + xi) * own
            factors = torch.ones_like(own), own
            moments = [(torch.zeros_like(own), torch.ones_like(own))] * restarts
        else:
            mean, std = stats
            weight, shift = std * (1 + delta), mean + std * xi
            factors = std, std
            moments = []
        y = torch.empty((restarts * count, *z.shape[1:]), dtype=z.dtype, memory_format=_format(z))
        for k in range(restarts):
            part, out = (z if shared else z[k * count : (k + 1) * count]), y[k * count : (k + 1) * count]
            running: tuple[Tensor | None, Tensor | None]
            if stats is None:
                running, training, eps = moments[k], False, 0.0
                saved = torch.empty(0), torch.empty(0)
            else:
                running, training, eps = (None, None), True, reference.EPS
                saved = torch.empty(channels), torch.empty(channels)
                moments.append(saved)
            aten.native_batch_norm.out(
                part, weight[k], shift[k], *running, training, 0.0, eps, out=out, save_mean=saved[0], save_invstd=saved[1]
            )
        if residual is not None:
            y += residual
        if relu:
            y.relu_()
        ctx.save_for_backward(z, y if relu else None, weight, *factors, *(m for pair in moments for m in pair))
        ctx.settings = restarts, count, shared, stats is not None
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        z, y, weight, d_factor, x_factor, *flat = ctx.saved_tensors
        restarts, count, shared, normalised = ctx.settings
        # torch's kernels are ten times slower on tensors that lie differently
        g = g.contiguous(memory_format=_format(z))
        if y is not None:
            g = aten.threshold_backward(g, y, 0)
        need_z = ctx.needs_input_grad[0]
        # what one restart gives is all of it
        several = need_z and restarts > 1
        dz = None if not several else torch.zeros_like(z) if shared else torch.empty_like(z)
        d_weight, d_shift = torch.empty_like(weight), torch.empty_like(weight)
        for k in range(restarts):
            part = slice(0, count) if shared else slice(k * count, (k + 1) * count)
            mean, inverse = flat[2 * k], flat[2 * k + 1]
            saved = (None, None, mean, inverse) if normalised else (mean, inverse, None, None)
            eps = reference.EPS if normalised else 0.0
            own, d_weight[k], d_shift[k] = aten.native_batch_norm_backward(
                g[k * count : (k + 1) * count], z[part], weight[k], *saved, normalised, eps, [need_z, True, True]
            )
            if dz is not None:
                dz[part] = dz[part] + own if shared else own
        need_r = ctx.needs_input_grad[3]
        return (dz if several else own if need_z else None), d_weight * d_factor, d_shift * x_factor, (g if need_r else None), None
