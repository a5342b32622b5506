"""Convolutions and linear layers that carry neuron noise."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from banscan.kernels.dispatch import chosen


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
    residual: Tensor | None = None,
) -> Tensor:
    """`reference.perturb` on the fastest backend for z's device, for pre-activations that are there already."""
    return chosen(z.device).perturb(z, bias, delta, xi, stats, act, axis=axis, shared=shared, residual=residual)


def noisy_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    delta: Tensor,
    xi: Tensor,
    stats: Tensor | None = None,
    act: str | None = None,
    *,
    stride: int | list[int] = 1,
    padding: int | str | list[int] = 0,
    dilation: int | list[int] = 1,
    groups: int = 1,
    transposed: bool = False,
    output_padding: int | list[int] = 0,
    shared: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """A convolution under noise in one, two or three dimensions.

    Args:
        x: [K * N, C', ...], or [N, C', ...] when `shared`.
        weight: [C, C' / groups, ...], or [C', C / groups, ...] when `transposed`; with `stats` in units of s (`reference.units`).
        bias, delta, xi, stats, act, residual: as in `reference.perturb`.

    Returns:
        [K * N, C, ...]. Gradients reach x, delta, xi and residual; the weights are meant to be frozen (requires_grad False), so that none
        is computed for them.
    """
    dims = weight.dim() - 2
    if transposed:
        turned: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        z = turned(x, weight, None, stride, padding, output_padding, groups, dilation)
    else:
        straight: Any = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
        z = straight(x, weight, None, stride, padding, dilation, groups)
    return perturb(z, bias, delta, xi, stats, act, axis=1, shared=shared, residual=residual)


def noisy_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    delta: Tensor,
    xi: Tensor,
    stats: Tensor | None = None,
    act: str | None = None,
    *,
    shared: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """A linear layer on the last axis under noise; x is [K * N, ..., C'], or [N, ..., C'] when `shared`. Returns [K * N, ..., C]."""
    return perturb(F.linear(x, weight), bias, delta, xi, stats, act, axis=-1, shared=shared, residual=residual)
