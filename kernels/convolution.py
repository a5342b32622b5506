"""A convolution under noise as one product of matrices on a GPU: what stands behind it is computed before its result leaves the processor.

Rows are images times places, as in `epilogue`; the features of a row are gathered from the image as the product goes along (implicit GEMM),
so that no matrix of patches is ever written. 1 x 1 and 3 x 3, stride 1 or 2, float32 sums. In the plain form (Eq. 3) y is all that is
written. In the normalised form it is z, and mean and sum of squared differences of every `CHUNK` rows, which `merge` puts together (Chan
et al.), so that no pass over z is needed to find mu and sigma. The gradient of x is that of any convolution.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from banscan.kernels import epilogue
from banscan.kernels.noise import LayerNoise, Twice
from banscan.kernels.tiles import CHUNK, Tile, convolved, depth, levels, mapped, processors
from banscan.kernels.tree import added
from banscan.kernels.tuning import best

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# of chunks whose moments are put together at once
GROUP = 64
# numbers of values are 32 bits wide inside a restart
LARGEST = 2**31 - 1


@triton.jit(do_not_specialize=["IMAGES", "H", "W", "DOWN", "ACROSS", "BLOCKS", "TILES", "RESTARTS", "PARTS"])
def convolve(  # type: ignore[no-untyped-def]
    x_ptr, w_ptr, residual_ptr, table_ptr, part_ptr, y_ptr, IMAGES, H, W, DOWN, ACROSS, FEATURES, C, BLOCKS, TILES, RESTARTS, PARTS,
    SIDE: tl.constexpr, STRIDE: tl.constexpr, PAD: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, RELU: tl.constexpr,
    WIDEN: tl.constexpr, STAYS: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, CHUNK: tl.constexpr,
    LEVELS: tl.constexpr,
):  # fmt: skip
    """From x [K, IMAGES, H, W, FEATURES] and w [C, SIDE, SIDE, FEATURES] to y [K, IMAGES, DOWN, ACROSS, C].

    NORM: y is z, and part [K, PARTS, 2, C] its moments. Otherwise y = act(factor z + shift + residual). STAYS: a program computes one after
    the other of the TILES that each of RESTARTS has; otherwise one.
    """
    if STAYS:
        for number in range(tl.program_id(0), TILES * RESTARTS, tl.num_programs(0)):
            tile_of(
                x_ptr, w_ptr, residual_ptr, table_ptr, part_ptr, y_ptr, number % TILES, number // TILES,
                IMAGES, H, W, DOWN, ACROSS, FEATURES, C, BLOCKS, PARTS,
                SIDE, STRIDE, PAD, NORM, RESIDUAL, RELU, WIDEN, BM, BC, BK, CHUNK, LEVELS,
            )  # fmt: skip
    else:
        tile_of(
            x_ptr, w_ptr, residual_ptr, table_ptr, part_ptr, y_ptr, tl.program_id(0), tl.program_id(1),
            IMAGES, H, W, DOWN, ACROSS, FEATURES, C, BLOCKS, PARTS,
            SIDE, STRIDE, PAD, NORM, RESIDUAL, RELU, WIDEN, BM, BC, BK, CHUNK, LEVELS,
        )  # fmt: skip


@triton.jit
def tile_of(  # type: ignore[no-untyped-def]
    x_ptr, w_ptr, residual_ptr, table_ptr, part_ptr, y_ptr, number, k, IMAGES, H, W, DOWN, ACROSS, FEATURES, C, BLOCKS, PARTS,
    SIDE: tl.constexpr, STRIDE: tl.constexpr, PAD: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, RELU: tl.constexpr,
    WIDEN: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, CHUNK: tl.constexpr, LEVELS: tl.constexpr,
):  # fmt: skip
    """One tile of restart k of what `convolve` computes, rows times channels; BLOCKS tiles in a row have the same rows."""
    tile, block = number // BLOCKS, number % BLOCKS
    M = IMAGES * DOWN * ACROSS
    channel = block * BC + tl.arange(0, BC)
    real = channel < C
    row = tile * BM + tl.arange(0, BM)
    there = row < M
    image, place = row // (DOWN * ACROSS), row % (DOWN * ACROSS)
    top, left = (place // ACROSS) * STRIDE - PAD, (place % ACROSS) * STRIDE - PAD
    corner = (image * H + top) * W + left
    x_ptr += k.to(tl.int64) * IMAGES * H * W * FEATURES
    steps = tl.cdiv(FEATURES, BK)
    z = tl.zeros((BM, BC), tl.float32)
    for step in range(SIDE * SIDE * steps):
        tap = step // steps
        below, right = tap // SIDE, tap % SIDE
        feature = (step % steps) * BK + tl.arange(0, BK)
        known = feature < FEATURES
        inside = there & (top + below >= 0) & (top + below < H) & (left + right >= 0) & (left + right < W)
        pixel = corner + below * W + right
        x = tl.load(x_ptr + pixel[:, None] * FEATURES + feature[None, :], inside[:, None] & known[None, :], 0.0)
        behind = w_ptr + tap * FEATURES + feature[:, None] + channel[None, :] * (SIDE * SIDE * FEATURES)
        w = tl.load(behind, known[:, None] & real[None, :], 0.0)
        if WIDEN:
            x, w = x.to(tl.float32), w.to(tl.float32)
        z = tl.dot(x, w, z, input_precision="ieee")
    kept = there[:, None] & real[None, :]
    y_ptr += k.to(tl.int64) * M * C + row[:, None].to(tl.int64) * C + channel[None, :]
    if NORM:
        # moments of what is stored, and not of what was rounded to it
        stored = z.to(y_ptr.dtype.element_ty)
        tl.store(y_ptr, stored, kept)
        values = tl.reshape(stored.to(tl.float32), (BM // CHUNK, CHUNK, BC))
        part = tile * (BM // CHUNK) + tl.arange(0, BM // CHUNK)
        count = tl.minimum(tl.maximum(M - part * CHUNK, 1), CHUNK).to(tl.float32)
        # rows that are not there are zero
        mean = added(values, LEVELS) / count[:, None]
        away = tl.where(tl.reshape(there, (BM // CHUNK, CHUNK))[:, :, None], values - mean[:, None, :], 0.0)
        part_ptr += k.to(tl.int64) * PARTS * 2 * C + part[:, None] * 2 * C + channel[None, :]
        found = (part < PARTS)[:, None] & real[None, :]
        tl.store(part_ptr, mean, found)
        tl.store(part_ptr + C, added(away * away, LEVELS), found)
    else:
        table_ptr += k * 4 * C
        factor = tl.load(table_ptr + channel, real, 0.0)
        shift = tl.load(table_ptr + 2 * C + channel, real, 0.0)
        y = tl.fma(z, factor[None, :], shift[None, :])
        if RESIDUAL:
            own = residual_ptr + k.to(tl.int64) * M * C + row[:, None].to(tl.int64) * C + channel[None, :]
            y += tl.load(own, kept, 0.0).to(tl.float32)
        if RELU:
            y = tl.maximum(y, 0.0)
        tl.store(y_ptr, y.to(y_ptr.dtype.element_ty), kept)


@triton.jit
def merge(  # type: ignore[no-untyped-def]
    part_ptr, merged_ptr, M, C, PARTS, CHUNK: tl.constexpr, GROUP: tl.constexpr, LEVELS: tl.constexpr, BC: tl.constexpr
):  # fmt: skip
    """Moments of CHUNK rows each, [K, PARTS, 2, C], into those of GROUP chunks each."""
    group, block, k = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channel = block * BC + tl.arange(0, BC)
    part = group * GROUP + tl.arange(0, GROUP)
    inside = (part < PARTS)[:, None] & (channel < C)[None, :]
    count = tl.minimum(tl.maximum(M - part * CHUNK, 0), CHUNK).to(tl.float32)[:, None]
    all_ = tl.minimum(M - group * GROUP * CHUNK, GROUP * CHUNK).to(tl.float32)
    part_ptr += k.to(tl.int64) * PARTS * 2 * C + part[:, None] * 2 * C + channel[None, :]
    means = tl.load(part_ptr, inside, 0.0)
    squares = tl.load(part_ptr + C, inside, 0.0)
    mean = added((count * means)[None, :, :], LEVELS) / all_
    gap = means - mean
    total = added((squares + count * gap * gap)[None, :, :], LEVELS)
    merged_ptr += (k.to(tl.int64) * tl.num_programs(0) + group) * 2 * C + channel[None, :]
    tl.store(merged_ptr, mean, (channel < C)[None, :])
    tl.store(merged_ptr + C, total, (channel < C)[None, :])


@dataclass(frozen=True)
class Geometry:
    """Side of the window, how far it moves, and what is around the image."""

    side: int
    stride: int
    padding: int

    def size(self, before: int) -> int:
        """Places in one direction behind the convolution."""
        return (before + 2 * self.padding - self.side) // self.stride + 1


def suited(
    x: Tensor,
    weight: Tensor,
    noise: LayerNoise,
    stride: int | list[int],
    padding: int | str | list[int],
    dilation: int | list[int],
    groups: int,
) -> Geometry | None:
    """The geometry of a convolution that is computed here, None of any other; where restarts share x they would share its result, too."""
    strides, pads, dilations = (_one(value) for value in (stride, padding, dilation))
    if noise.shared or weight.requires_grad or weight.dim() != 4 or groups != 1 or dilations != 1:
        return None
    if x.dtype not in DTYPES or weight.dtype != x.dtype or strides not in (1, 2) or pads is None or min(x.shape) == 0:
        return None
    if tuple(weight.shape[2:]) not in ((1, 1), (3, 3)):
        return None
    geometry = Geometry(weight.shape[2], strides, pads)
    down, across = (geometry.size(before) for before in x.shape[2:])
    images = x.shape[0] // len(noise.delta)
    largest = images * max(x[0].numel(), down * across * len(weight))
    return geometry if min(down, across) > 0 and largest <= LARGEST else None


def _one(value: int | str | list[int]) -> int | None:
    """A number that holds in both directions."""
    if isinstance(value, int):
        return value
    return value[0] if not isinstance(value, str) and len({*value}) == 1 else None


def fused(x: Tensor, weight: Tensor, noise: LayerNoise, **how: Any) -> Twice | None:
    """As `noisy.noisy_conv` in one step; None for what is not `suited`."""
    geometry = suited(x, weight, noise, **how)
    return None if geometry is None else _noisy(x, weight, noise, geometry)


def faster(x: Tensor, weight: Tensor, noise: LayerNoise, **how: Any) -> Twice | None:
    """`fused` where that was faster than two steps, measured on this GPU once for a shape; otherwise None."""
    geometry = suited(x, weight, noise, **how)
    if geometry is None:
        return None

    @torch.no_grad()
    def launch(choice: str) -> Twice:
        if choice == "fused":
            return _noisy(x, weight, noise, geometry, measure=True)
        return epilogue.perturb(F.conv2d(x, weight, None, geometry.stride, geometry.padding), noise)

    last = x.is_contiguous(memory_format=torch.channels_last)
    about = (noise.stats is not None, noise.residual is not None, noise.act)
    shape = (len(noise.delta), *x.shape, len(weight), x.dtype, last, geometry, *about)
    won = best("convolution", shape, ("apart", "fused"), launch, x.device, measure=True)
    return None if won == "apart" else _noisy(x, weight, noise, geometry, measure=True)


def _noisy(x: Tensor, weight: Tensor, noise: LayerNoise, geometry: Geometry, *, measure: bool | None = None) -> Twice:
    """Channels last in memory is no copy here. The weights get no gradient."""
    rows = x.movedim(1, -1).contiguous()
    residual = None if noise.residual is None else noise.residual.movedim(1, -1).contiguous()
    given: Twice = _Convolve.apply(  # type: ignore[no-untyped-call]
        rows, noise.delta.contiguous(), noise.xi.contiguous(), residual, weight, noise, geometry, measure
    )
    return given[0].movedim(-1, 1), given[1].movedim(-1, 1)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        delta: Tensor,
        xi: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        noise: LayerNoise,
        geometry: Geometry,
        measure: bool | None,
    ) -> Twice:
        """x [K * N, H, W, C'] and residual contiguous; what else gets a gradient as in `epilogue`."""
        weight = weight.movedim(1, -1).contiguous()
        restarts, channels = delta.shape
        size = [geometry.size(before) for before in x.shape[1:3]]
        count = x.shape[0] // restarts * size[0] * size[1]
        y = torch.empty(x.shape[0], *size, channels, dtype=x.dtype, device=x.device)
        z = None
        if noise.stats is None:
            table = epilogue.table_of(noise, delta, xi, None, count, 1)
            _convolved(x, weight, residual, table, None, y, noise, geometry, measure)
        else:
            z = torch.empty_like(y)
            part = torch.empty(restarts, triton.cdiv(count, CHUNK), 2, channels, device=x.device)
            _convolved(x, weight, None, part, part, z, noise, geometry, measure)
            table = epilogue.table_of(noise, delta, xi, *_merged(part, count))
            epilogue.applied(z, residual, table, y, count, noise)
        epilogue.keep(ctx, z, y, residual, table, count, noise, weight)
        ctx.geometry, ctx.shape = geometry, x.shape
        return y, y.detach()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor | None, h: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None and h is None:
            return (None,) * 8
        dz, d_delta, d_xi, dr = epilogue.gradients(ctx, g, h)
        dx = None if dz is None else _input_gradient(dz, ctx.saved_tensors[-1], ctx.shape, ctx.geometry)
        return dx, d_delta, d_xi, dr, None, None, None, None


def _convolved(
    x: Tensor,
    weight: Tensor,
    residual: Tensor | None,
    table: Tensor,
    part: Tensor | None,
    y: Tensor,
    noise: LayerNoise,
    geometry: Geometry,
    measure: bool | None,
) -> None:
    """Writes y, and its moments into part where there is one."""
    restarts, channels, features = len(noise.delta), len(weight), x.shape[3]
    images, (high, wide), (down, across) = len(x) // restarts, x.shape[1:3], y.shape[1:3]
    relu = noise.act == "relu"
    # Triton's interpreter multiplies the bits of bfloat16 as if they were whole numbers
    widen = x.dtype == torch.bfloat16 and x.device.type == "cpu"

    def launch(tile: Tile) -> None:
        blocks = triton.cdiv(channels, tile.wide)
        tiles = triton.cdiv(images * down * across, tile.rows) * blocks
        programs = min(tile.stay * processors(x.device), tiles * restarts)
        convolve[(programs,) if programs else (tiles, restarts)](
            x, weight, x if residual is None else residual, table, table if part is None else part, y,
            images, high, wide, down, across, features, channels, blocks, tiles, restarts, 1 if part is None else part.shape[1],
            SIDE=geometry.side, STRIDE=geometry.stride, PAD=geometry.padding, NORM=part is not None,
            RESIDUAL=residual is not None, RELU=relu, WIDEN=widen, STAYS=programs > 0, BM=tile.rows, BC=tile.wide,
            BK=depth(features, x.dtype), CHUNK=CHUNK, LEVELS=levels(CHUNK), num_warps=tile.warps, num_stages=tile.stages,
            **epilogue.OPTIONS,
        )  # fmt: skip

    shape = (restarts, *x.shape, channels, x.dtype, geometry, part is not None, residual is not None, relu)
    launch(best("convolve", shape, convolved(channels, x.dtype), launch, x.device, measure=measure))


def _merged(part: Tensor, count: int) -> tuple[Tensor, int, int]:
    """Moments of few parts [K, P, 2, C], the rows of all of them, and those of one of them."""
    restarts, parts, _, channels = part.shape
    if parts <= GROUP:
        return part, count, CHUNK
    groups, wide = triton.cdiv(parts, GROUP), min(32, mapped(channels)[0].wide)
    merged = torch.empty(restarts, groups, 2, channels, device=part.device)
    merge[groups, triton.cdiv(channels, wide), restarts](
        part, merged, count, channels, parts, CHUNK=CHUNK, GROUP=GROUP, LEVELS=levels(GROUP), BC=wide, **epilogue.OPTIONS
    )
    return merged, count, CHUNK * GROUP


def _input_gradient(dz: Tensor, weight: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
    """Of x [K * N, H, W, C'], by cuDNN."""
    g, w = dz.movedim(-1, 1), weight.movedim(-1, 1)
    # nothing is read of x but its shape and how it lies
    x = torch.empty(shape, dtype=g.dtype, device=g.device).movedim(-1, 1)
    stride, padding = [geometry.stride] * 2, [geometry.padding] * 2
    only_x = [True, False, False]
    dx: Tensor = torch.ops.aten.convolution_backward(g, x, w, None, stride, padding, [1, 1], False, [0, 0], 1, only_x)[0]
    return dx.movedim(1, -1).contiguous()
