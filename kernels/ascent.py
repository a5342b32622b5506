"""The step of the noise search on a GPU: gradient step, momentum and projection of a restart by one Triton program."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from banscan.kernels.ball import TINY
from banscan.kernels.reference import MOMENTUM

# a row of noise has hundreds to some ten thousand values
BLOCK = 2048


@triton.jit
def box_step(noise_ptr, gradient_ptr, eps_ptr, D, STEPS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """eps / STEPS along the sign, clipped to [-eps, eps]."""
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = place < D
    base = tl.program_id(0).to(tl.int64) * D
    eps = tl.load(eps_ptr)
    gradient = tl.load(gradient_ptr + base + place, real, 0.0)
    sign = tl.where(gradient > 0, 1.0, tl.where(gradient < 0, -1.0, 0.0))
    noise = tl.load(noise_ptr + base + place, real, 0.0) + sign * (eps / STEPS)
    tl.store(noise_ptr + base + place, tl.minimum(tl.maximum(noise, -eps), eps), real)


@triton.jit
def ball_step(  # type: ignore[no-untyped-def]
    noise_ptr, gradient_ptr, momentum_ptr, eps_ptr, D, STEPS: tl.constexpr, MOMENTUM: tl.constexpr, TINY: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """A step of twice the radius / STEPS along the momentum, then back to the ball. A row is short: it is read four times, from cache."""
    base = tl.program_id(0).to(tl.int64) * D
    radius = tl.load(eps_ptr) * tl.sqrt(D.to(tl.float32))
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, D, BLOCK):
        place = start + tl.arange(0, BLOCK)
        gradient = tl.load(gradient_ptr + base + place, place < D, 0.0)
        squares += gradient * gradient
    length = tl.maximum(tl.sqrt(tl.sum(squares, 0)), TINY)
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, D, BLOCK):
        place = start + tl.arange(0, BLOCK)
        gradient = tl.load(gradient_ptr + base + place, place < D, 0.0)
        momentum = MOMENTUM * tl.load(momentum_ptr + base + place, place < D, 0.0) + gradient / length
        squares += momentum * momentum
        tl.store(momentum_ptr + base + place, momentum, place < D)
    stride = 2.0 * radius / STEPS / tl.maximum(tl.sqrt(tl.sum(squares, 0)), TINY)
    # every thread reads below what it has written itself: the layout of the loops is the same
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, D, BLOCK):
        place = start + tl.arange(0, BLOCK)
        momentum = tl.load(momentum_ptr + base + place, place < D, 0.0)
        noise = tl.load(noise_ptr + base + place, place < D, 0.0) + stride * momentum
        squares += noise * noise
        tl.store(noise_ptr + base + place, noise, place < D)
    shrink = tl.minimum(radius / tl.maximum(tl.sqrt(tl.sum(squares, 0)), TINY), 1.0)
    for start in range(0, D, BLOCK):
        place = start + tl.arange(0, BLOCK)
        noise = tl.load(noise_ptr + base + place, place < D, 0.0)
        tl.store(noise_ptr + base + place, noise * shrink, place < D)


def ascend(noise: Tensor, gradient: Tensor, momentum: Tensor, *, eps: Tensor, steps: int, ball: str) -> None:
    """As `reference.ascend`; float32, noise and momentum contiguous."""
    if not (noise.is_contiguous() and momentum.is_contiguous()):
        raise ValueError("noise and momentum must be contiguous: they are changed in place")
    rows, size = noise.shape
    gradient = gradient.contiguous()
    with torch.no_grad():
        if ball == "linf":
            box_step[rows, triton.cdiv(size, BLOCK)](noise, gradient, eps, size, STEPS=steps, BLOCK=BLOCK)
        elif ball == "l2":
            ball_step[(rows,)](noise, gradient, momentum, eps, size, STEPS=steps, MOMENTUM=MOMENTUM, TINY=TINY, BLOCK=BLOCK)
        else:
            raise ValueError(f"unknown ball {ball!r}; expected 'linf' or 'l2'")
