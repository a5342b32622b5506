"""Convolutions and linear layers that carry neuron noise."""

from torch import Tensor
from torch.nn import functional as F

from banscan.kernels.dispatch import BACKENDS, backend


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
    """`reference.perturb` on the fastest backend for z's device, for neurons that are neither convolution nor linear."""
    return BACKENDS[backend(z.device)](z, bias, delta, xi, stats, act, axis=axis, shared=shared)


def noisy_conv2d(
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
    shared: bool = False,
) -> Tensor:
    """A convolution under noise; x is [K * N, C', H', W'], or [N, C', H', W'] when `shared`, and the rest as in `reference.perturb`.

    Returns [K * N, C, H, W]. Gradients reach x, delta and xi; the weights are meant to be frozen (requires_grad False), so that
    none is computed for them.
    """
    z = F.conv2d(x, weight, None, stride, padding, dilation, groups)  # type: ignore[arg-type]
    return perturb(z, bias, delta, xi, stats, act, axis=1, shared=shared)


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
) -> Tensor:
    """A linear layer on the last axis under noise; x is [K * N, ..., C'], or [N, ..., C'] when `shared`. Returns [K * N, ..., C]."""
    return perturb(F.linear(x, weight), bias, delta, xi, stats, act, axis=-1, shared=shared)
