"""Convolutions and linear layers that carry neuron noise."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from banscan.kernels.dispatch import chosen
from banscan.kernels.noise import LayerNoise, Twice


def perturb(z: Tensor, noise: LayerNoise, *, axis: int = 1) -> Twice:
    """`reference.perturb` on the fastest backend for z's device, for pre-activations that are there already."""
    return chosen(z.device).perturb(z, noise, axis=axis)


def noisy_conv(
    x: Tensor,
    weight: Tensor,
    noise: LayerNoise,
    *,
    stride: int | list[int] = 1,
    padding: int | str | list[int] = 0,
    dilation: int | list[int] = 1,
    groups: int = 1,
) -> Twice:
    """A convolution under noise in one, two or three dimensions.

    Args:
        x: [K * N, C', ...], or [N, C', ...] where the noise is `shared`.
        weight: [C, C' / groups, ...]; in the normalised form in units of s (`reference.units`).

    Returns:
        [K * N, C, ...], twice. Gradients reach x, delta, xi and residual; the weights are meant to be frozen (requires_grad False), so that
        none is computed for them.
    """
    step = chosen(x.device).convolve
    if step is not None:
        done = step(x, weight, noise, stride=stride, padding=padding, dilation=dilation, groups=groups)
        if done is not None:
            return done
    convolved: Any = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
    return perturb(convolved(x, weight, None, stride, padding, dilation, groups), noise)


def noisy_linear(x: Tensor, weight: Tensor, noise: LayerNoise) -> Twice:
    """A linear layer on the last axis under noise; x is [K * N, ..., C'], or [N, ..., C'] where shared. Returns [K * N, ..., C], twice."""
    return perturb(F.linear(x, weight), noise, axis=-1)
