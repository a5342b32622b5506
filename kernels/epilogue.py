"""The noise on a GPU: what stands behind a convolution or a linear layer, forward and backward, by Triton kernels.

Tensors are seen as [K, M, C]: K restarts, M rows (images times places), C channels that lie next to each other in memory (channels last).
Forward reads z twice in the normalised form (moments, then values) and once in the plain one; backward the same. Sums are taken in float32
by a fixed order of programs, without atomics, so that a scan gives the same numbers every time. Pre-activations that follow from the
output are not stored: the plain form keeps y alone and z = (y - residual - (1 + xi) b) / (1 + delta), where the gradient is not zero.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from banscan.kernels.noise import LayerNoise
from banscan.kernels.reference import EPS

# values of a tile, where each is mapped and where they are summed: chosen by the registers and spills of the compiled kernels for sm_80
# and sm_90 (tests/kernels/test_compiled.py), not yet by time on a GPU
MAPPED, SUMMED = 4096, 2048
WARPS = 4
# rows of tiles that one program sums
TILES = 8
# programs of a sum at most, so that adding their results up stays short
PROGRAMS = 512
# where the ReLU's mask comes from
NONE, FROM_Y, FROM_Z = 0, 1, 2
# stated, because Triton's default for the fusion of products and sums changes with its version
OPTIONS: dict[str, Any] = {"num_warps": WARPS, "enable_fp_fusion": True}


@triton.jit
def moments(z_ptr, part_ptr, M, C, ROWS, BM: tl.constexpr, BC: tl.constexpr):  # type: ignore[no-untyped-def]
    """Mean and sum of squared differences of ROWS rows: part [K, P, 2, C]."""
    program, block, k = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channel = block * BC + tl.arange(0, BC)
    real = channel < C
    z_ptr += k.to(tl.int64) * M * C
    count = 0.0
    mean = tl.zeros((BC,), tl.float32)
    squares = tl.zeros((BC,), tl.float32)
    first = program * ROWS
    for start in range(first, tl.minimum(first + ROWS, M), BM):
        row = start + tl.arange(0, BM)
        inside = (row[:, None] < M) & (row[:, None] < first + ROWS) & real[None, :]
        z = tl.load(z_ptr + row[:, None].to(tl.int64) * C + channel[None, :], inside, 0.0).to(tl.float32)
        here = (tl.minimum(tl.minimum(start + BM, first + ROWS), M) - start).to(tl.float32)
        own = tl.sum(z, 0) / here
        away = tl.where(inside, z - own[None, :], 0.0)
        # two means into one (Chan et al.)
        both = count + here
        gap = own - mean
        mean += gap * (here / both)
        squares += tl.sum(away * away, 0) + gap * gap * (count * here / both)
        count = both
    part_ptr += ((k * tl.num_programs(0) + program) * 2) * C
    tl.store(part_ptr + channel, mean, real)
    tl.store(part_ptr + C + channel, squares, real)


@triton.jit
def settle(  # type: ignore[no-untyped-def]
    part_ptr, bias_ptr, stats_ptr, delta_ptr, xi_ptr, table_ptr, M, C, ROWS, PARTS, EPS: tl.constexpr,
    NORM: tl.constexpr, BIAS: tl.constexpr, SHARED: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The numbers of a channel, table [K, 4, C]: y = (z - centre) * factor + shift, and 1 / deviation."""
    block, k = tl.program_id(0), tl.program_id(1)
    channel = block * BC + tl.arange(0, BC)
    real = channel < C
    delta = tl.load(delta_ptr + k * C + channel, real, 0.0)
    xi = tl.load(xi_ptr + k * C + channel, real, 0.0)
    if NORM:
        part_ptr += (0 if SHARED else k) * PARTS * 2 * C
        count = 0.0
        mean = tl.zeros((BC,), tl.float32)
        squares = tl.zeros((BC,), tl.float32)
        for p in range(PARTS):
            here = tl.minimum(M - p * ROWS, ROWS).to(tl.float32)
            both = count + here
            gap = tl.load(part_ptr + p * 2 * C + channel, real, 0.0) - mean
            mean += gap * (here / both)
            squares += tl.load(part_ptr + (p * 2 + 1) * C + channel, real, 0.0) + gap * gap * (count * here / both)
            count = both
        clean = tl.load(stats_ptr + channel, real, 0.0)
        deviation = tl.load(stats_ptr + C + channel, real, 0.0)
        inverse = 1.0 / tl.sqrt(squares / M + EPS)
        factor = deviation * (1.0 + delta) * inverse
        shift = clean + deviation * xi
    else:
        bias = tl.zeros((BC,), tl.float32)
        if BIAS:
            bias = tl.load(bias_ptr + channel, real, 0.0)
        mean = tl.zeros((BC,), tl.float32)
        inverse = tl.full((BC,), 1.0, tl.float32)
        factor = 1.0 + delta
        shift = (1.0 + xi) * bias
    table_ptr += k * 4 * C
    tl.store(table_ptr + channel, factor, real)
    tl.store(table_ptr + C + channel, mean, real)
    tl.store(table_ptr + 2 * C + channel, shift, real)
    tl.store(table_ptr + 3 * C + channel, inverse, real)


@triton.jit
def apply(  # type: ignore[no-untyped-def]
    z_ptr, residual_ptr, table_ptr, y_ptr, M, C,
    SHARED: tl.constexpr, RESIDUAL: tl.constexpr, RELU: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y = act((z - centre) * factor + shift + residual)."""
    program, block, k = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channel = block * BC + tl.arange(0, BC)
    real = channel < C
    row = program * BM + tl.arange(0, BM)
    inside = (row[:, None] < M) & real[None, :]
    place = row[:, None].to(tl.int64) * C + channel[None, :]
    base = k.to(tl.int64) * M * C
    table_ptr += k * 4 * C
    factor = tl.load(table_ptr + channel, real, 0.0)
    centre = tl.load(table_ptr + C + channel, real, 0.0)
    shift = tl.load(table_ptr + 2 * C + channel, real, 0.0)
    z = tl.load(z_ptr + (0 if SHARED else base) + place, inside, 0.0).to(tl.float32)
    y = (z - centre[None, :]) * factor[None, :] + shift[None, :]
    if RESIDUAL:
        y += tl.load(residual_ptr + base + place, inside, 0.0).to(tl.float32)
    if RELU:
        y = tl.maximum(y, 0.0)
    tl.store(y_ptr + base + place, y.to(y_ptr.dtype.element_ty), inside)


@triton.jit
def _gradient(g_ptr, y_ptr, z_ptr, place, inside, base, z_base, factor, centre, shift, MASK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The gradient in front of the activation."""
    g = tl.load(g_ptr + base + place, inside, 0.0).to(tl.float32)
    if MASK == 1:
        g = tl.where(tl.load(y_ptr + base + place, inside, 0.0).to(tl.float32) > 0, g, 0.0)
    if MASK == 2:
        z = tl.load(z_ptr + z_base + place, inside, 0.0).to(tl.float32)
        g = tl.where((z - centre[None, :]) * factor[None, :] + shift[None, :] > 0, g, 0.0)
    return g


@triton.jit
def gather(  # type: ignore[no-untyped-def]
    g_ptr, y_ptr, z_ptr, residual_ptr, table_ptr, part_ptr, dz_ptr, dr_ptr, M, C, ROWS,
    SHARED: tl.constexpr, RESIDUAL: tl.constexpr, MASK: tl.constexpr, NORM: tl.constexpr, DZ: tl.constexpr, DR: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Sums of g and of g times the standardised z over ROWS rows, part [K, P, 2, C]; in the plain form also grad z and grad residual."""
    program, block, k = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channel = block * BC + tl.arange(0, BC)
    real = channel < C
    base = k.to(tl.int64) * M * C
    z_base = base * 0 if SHARED else base
    table_ptr += k * 4 * C
    factor = tl.load(table_ptr + channel, real, 1.0)
    centre = tl.load(table_ptr + C + channel, real, 0.0)
    shift = tl.load(table_ptr + 2 * C + channel, real, 0.0)
    inverse = tl.load(table_ptr + 3 * C + channel, real, 1.0)
    total = tl.zeros((BC,), tl.float32)
    product = tl.zeros((BC,), tl.float32)
    first = program * ROWS
    for start in range(first, tl.minimum(first + ROWS, M), BM):
        row = start + tl.arange(0, BM)
        inside = (row[:, None] < M) & (row[:, None] < first + ROWS) & real[None, :]
        place = row[:, None].to(tl.int64) * C + channel[None, :]
        g = _gradient(g_ptr, y_ptr, z_ptr, place, inside, base, z_base, factor, centre, shift, MASK)
        if NORM:
            z = tl.load(z_ptr + z_base + place, inside, 0.0).to(tl.float32)
            z = (z - centre[None, :]) * inverse[None, :]
        else:
            z = tl.load(y_ptr + base + place, inside, 0.0).to(tl.float32) - shift[None, :]
            if RESIDUAL:
                z -= tl.load(residual_ptr + base + place, inside, 0.0).to(tl.float32)
            if DZ:
                tl.store(dz_ptr + base + place, (g * factor[None, :]).to(dz_ptr.dtype.element_ty), inside)
            if DR:
                tl.store(dr_ptr + base + place, g.to(dr_ptr.dtype.element_ty), inside)
        total += tl.sum(g, 0)
        product += tl.sum(g * z, 0)
    if not NORM:
        product = product / factor
    part_ptr += ((k * tl.num_programs(0) + program) * 2) * C
    tl.store(part_ptr + channel, total, real)
    tl.store(part_ptr + C + channel, product, real)


@triton.jit
def settle_gradient(  # type: ignore[no-untyped-def]
    part_ptr, bias_ptr, stats_ptr, delta_grad_ptr, xi_grad_ptr, mean_ptr, M, C, PARTS,
    NORM: tl.constexpr, BIAS: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Adds the programs' sums up, in their order: grad delta and grad xi [K, C], and what normalisation takes off, mean [K, 2, C]."""
    block, k = tl.program_id(0), tl.program_id(1)
    channel = block * BC + tl.arange(0, BC)
    real = channel < C
    part_ptr += k * PARTS * 2 * C
    total = tl.zeros((BC,), tl.float32)
    product = tl.zeros((BC,), tl.float32)
    for p in range(PARTS):
        total += tl.load(part_ptr + p * 2 * C + channel, real, 0.0)
        product += tl.load(part_ptr + (p * 2 + 1) * C + channel, real, 0.0)
    if NORM:
        deviation = tl.load(stats_ptr + C + channel, real, 0.0)
        delta_grad, xi_grad = deviation * product, deviation * total
        tl.store(mean_ptr + k * 2 * C + channel, total / M, real)
        tl.store(mean_ptr + k * 2 * C + C + channel, product / M, real)
    else:
        bias = tl.zeros((BC,), tl.float32)
        if BIAS:
            bias = tl.load(bias_ptr + channel, real, 0.0)
        delta_grad, xi_grad = product, bias * total
    tl.store(delta_grad_ptr + k * C + channel, delta_grad, real)
    tl.store(xi_grad_ptr + k * C + channel, xi_grad, real)


@triton.jit
def spread(  # type: ignore[no-untyped-def]
    g_ptr, y_ptr, z_ptr, table_ptr, mean_ptr, dz_ptr, dr_ptr, M, C,
    SHARED: tl.constexpr, MASK: tl.constexpr, DZ: tl.constexpr, DR: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The normalised form's grad z = factor (g - mean g - z^ mean(g z^)), and grad residual = g."""
    program, block, k = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channel = block * BC + tl.arange(0, BC)
    real = channel < C
    row = program * BM + tl.arange(0, BM)
    inside = (row[:, None] < M) & real[None, :]
    place = row[:, None].to(tl.int64) * C + channel[None, :]
    base = k.to(tl.int64) * M * C
    z_base = base * 0 if SHARED else base
    table_ptr += k * 4 * C
    mean_ptr += k * 2 * C
    factor = tl.load(table_ptr + channel, real, 0.0)
    centre = tl.load(table_ptr + C + channel, real, 0.0)
    shift = tl.load(table_ptr + 2 * C + channel, real, 0.0)
    inverse = tl.load(table_ptr + 3 * C + channel, real, 0.0)
    g = _gradient(g_ptr, y_ptr, z_ptr, place, inside, base, z_base, factor, centre, shift, MASK)
    if DR:
        tl.store(dr_ptr + base + place, g.to(dr_ptr.dtype.element_ty), inside)
    if DZ:
        z = (tl.load(z_ptr + z_base + place, inside, 0.0).to(tl.float32) - centre[None, :]) * inverse[None, :]
        total = tl.load(mean_ptr + channel, real, 0.0)
        product = tl.load(mean_ptr + C + channel, real, 0.0)
        dz = factor[None, :] * (g - total[None, :] - z * product[None, :])
        tl.store(dz_ptr + base + place, dz.to(dz_ptr.dtype.element_ty), inside)


def perturb(z: Tensor, noise: LayerNoise, *, axis: int = 1) -> Tensor:
    """As `reference.perturb`; z and residual float32, float16 or bfloat16, everything else float32; |delta| < 1 in the plain form."""
    # channels last in memory is no copy here
    rows = z.movedim(axis, -1).contiguous()
    residual = None if noise.residual is None else noise.residual.movedim(axis, -1).contiguous()
    y: Tensor = _Perturb.apply(rows, noise.delta.contiguous(), noise.xi.contiguous(), residual, noise)  # type: ignore[no-untyped-call]
    return y.movedim(-1, axis)


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
        """What gets a gradient is an argument of its own, contiguous; the rest of the noise is read off `noise`."""
        restarts, channels = delta.shape
        bias, stats, shared, relu = noise.bias, noise.stats, noise.shared, noise.act == "relu"
        norm = stats is not None
        images = z.shape[0] if shared else z.shape[0] // restarts
        count = images * z[0].numel() // channels
        table = torch.empty(restarts, 4, channels, device=z.device)
        part, rows, parts = table, 1, 1
        wide, blocks = _block(channels)
        if norm:
            own = 1 if shared else restarts
            rows, parts = _programs(count, SUMMED // wide)
            part = torch.empty(own, parts, 2, channels, device=z.device)
            moments[parts, blocks, own](z, part, count, channels, rows, BM=SUMMED // wide, BC=wide, **OPTIONS)
        settle[blocks, restarts](
            part, table if bias is None else bias, table if stats is None else stats, delta, xi, table, count, channels, rows, parts,
            EPS=EPS, NORM=norm, BIAS=bias is not None, SHARED=shared, BC=wide, **OPTIONS,
        )  # fmt: skip
        y = torch.empty(restarts * images, *z.shape[1:], dtype=z.dtype, device=z.device)
        apply[triton.cdiv(count, MAPPED // wide), blocks, restarts](
            z, z if residual is None else residual, table, y, count, channels,
            SHARED=shared, RESIDUAL=residual is not None, RELU=relu, BM=MAPPED // wide, BC=wide, **OPTIONS,
        )  # fmt: skip
        mask = NONE if not relu else FROM_Y if residual is not None or not norm else FROM_Z
        keep_y = not norm or mask == FROM_Y
        ctx.save_for_backward(z if norm else None, y if keep_y else None, residual if not norm else None, table, bias, stats)
        ctx.settings = restarts, count, shared, mask, residual is not None
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        z, y, residual, table, bias, stats = ctx.saved_tensors
        restarts, count, shared, mask, added = ctx.settings
        channels = table.shape[2]
        norm, need_z = stats is not None, ctx.needs_input_grad[0]
        need_r = added and ctx.needs_input_grad[3]
        own_r = need_r and mask != NONE
        g = g.contiguous()
        dz = torch.empty_like(g) if need_z else g
        dr = torch.empty_like(g) if own_r else g
        wide, blocks = _block(channels)
        rows, parts = _programs(count, SUMMED // wide)
        part = torch.empty(restarts, parts, 2, channels, device=g.device)
        gather[parts, blocks, restarts](
            g, g if y is None else y, g if z is None else z, g if residual is None else residual, table, part, dz, dr,
            count, channels, rows, SHARED=shared, RESIDUAL=residual is not None, MASK=mask, NORM=norm,
            DZ=need_z and not norm, DR=own_r and not norm, BM=SUMMED // wide, BC=wide, **OPTIONS,
        )  # fmt: skip
        d_delta, d_xi = torch.empty(2, restarts, channels, device=g.device)
        mean = torch.empty(restarts, 2, channels, device=g.device)
        settle_gradient[blocks, restarts](
            part, table if bias is None else bias, table if stats is None else stats, d_delta, d_xi, mean, count, channels, parts,
            NORM=norm, BIAS=bias is not None, BC=wide, **OPTIONS,
        )  # fmt: skip
        if norm and (need_z or own_r):
            spread[triton.cdiv(count, MAPPED // wide), blocks, restarts](
                g, g if y is None else y, z, table, mean, dz, dr, count, channels,
                SHARED=shared, MASK=mask, DZ=need_z, DR=own_r, BM=MAPPED // wide, BC=wide, **OPTIONS,
            )  # fmt: skip
        if need_z and shared:
            dz = dz.unflatten(0, (restarts, -1)).sum(0)
        return (dz if need_z else None), d_delta, d_xi, (dr if need_r else None), None


def _block(channels: int) -> tuple[int, int]:
    """Channels of a tile, and tiles next to each other."""
    wide = max(16, min(64, triton.next_power_of_2(channels)))
    return wide, triton.cdiv(channels, wide)


def _programs(rows: int, tile: int) -> tuple[int, int]:
    """Rows that one program sums, whole tiles of them, and how many programs."""
    own = max(TILES * tile, triton.cdiv(triton.cdiv(rows, PROGRAMS), tile) * tile)
    return own, triton.cdiv(rows, own)
