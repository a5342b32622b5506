"""Sums over the rows of a tile in an order that neither its width, nor its layout, nor the number of warps changes."""

import triton
import triton.language as tl


@triton.jit
def added(x, LEVELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sums [L, C] of x [L, 2 ** LEVELS, C]: neighbours are added up, and their sums again, until one is left.

    Every step adds two numbers, and a + b = b + a: it does not matter which thread holds which. Products among them must not be fused with
    the sum (`enable_fp_fusion`), which only happens where one thread holds both.
    """
    for _ in tl.static_range(LEVELS):
        x = tl.sum(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2, x.shape[2])), 2)
    return tl.reshape(x, (x.shape[0], x.shape[2]))


@triton.jit
def column(x, LEVELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sums [C] of x [2 ** LEVELS, C]."""
    return tl.reshape(added(tl.reshape(x, (1, x.shape[0], x.shape[1])), LEVELS), (x.shape[1],))
