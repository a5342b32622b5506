"""The noise on a GPU: what stands behind a convolution or a linear layer, forward and backward, by Triton kernels.

Tensors are seen as [K, M, C]: K restarts, M rows (images times places), C channels that lie next to each other in memory (channels last).
Forward reads z twice in the normalised form (moments, then values) and once in the plain one; backward the same. Sums are taken in float32
by a fixed order of programs, without atomics, so that a scan gives the same numbers every time. Pre-activations that follow from the
output are not stored: the plain form keeps y alone and z = (y - residual - (1 + xi) b) / (1 + delta), where the gradient is not zero.
What stands behind the pre-activations, `table_of` to `gradients`, serves convolutions that find moments themselves as well.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from banscan.kernels.noise import LayerNoise, Twice
from banscan.kernels.reference import EPS
from banscan.kernels.tiles import Tile, levels, mapped, summed
from banscan.kernels.tree import column
from banscan.kernels.tuning import best

# rows of tiles that one program sums
TILES = 8
# programs of a sum at most, so that adding their results up stays short
PROGRAMS = 512
# where the ReLU's mask comes from
NONE, FROM_Y, FROM_Z = 0, 1, 2
# what a compiler fuses depends on which thread holds what, and so on the tile; where a product is added, `tl.fma` says so
OPTIONS: dict[str, Any] = {"enable_fp_fusion": False}


@triton.jit
def moments(z_ptr, part_ptr, M, C, ROWS, BM: tl.constexpr, BC: tl.constexpr, LEVELS: tl.constexpr):  # type: ignore[no-untyped-def]
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
        own = column(z, LEVELS) / here
        away = tl.where(inside, z - own[None, :], 0.0)
        # two means into one (Chan et al.)
        both = count + here
        gap = own - mean
        mean += gap * (here / both)
        squares += column(away * away, LEVELS) + gap * gap * (count * here / both)
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
    y = tl.fma(z - centre[None, :], factor[None, :], shift[None, :])
    if RESIDUAL:
        y += tl.load(residual_ptr + base + place, inside, 0.0).to(tl.float32)
    if RELU:
        y = tl.maximum(y, 0.0)
    tl.store(y_ptr + base + place, y.to(y_ptr.dtype.element_ty), inside)


@triton.jit
def _gradient(  # type: ignore[no-untyped-def]
    g_ptr, h_ptr, y_ptr, z_ptr, place, inside, base, z_base, factor, centre, shift, TWICE: tl.constexpr, MASK: tl.constexpr
):  # fmt: skip
    """The gradient in front of the activation; h is that of the result's other readers."""
    g = tl.load(g_ptr + base + place, inside, 0.0).to(tl.float32)
    if TWICE:
        g += tl.load(h_ptr + base + place, inside, 0.0).to(tl.float32)
    if MASK == 1:
        g = tl.where(tl.load(y_ptr + base + place, inside, 0.0).to(tl.float32) > 0, g, 0.0)
    if MASK == 2:
        z = tl.load(z_ptr + z_base + place, inside, 0.0).to(tl.float32)
        g = tl.where(tl.fma(z - centre[None, :], factor[None, :], shift[None, :]) > 0, g, 0.0)
    return g


@triton.jit
def gather(  # type: ignore[no-untyped-def]
    g_ptr, h_ptr, y_ptr, z_ptr, residual_ptr, table_ptr, part_ptr, dz_ptr, dr_ptr, M, C, ROWS,
    SHARED: tl.constexpr, RESIDUAL: tl.constexpr, TWICE: tl.constexpr, MASK: tl.constexpr, NORM: tl.constexpr,
    DZ: tl.constexpr, DR: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, LEVELS: tl.constexpr,
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
        g = _gradient(g_ptr, h_ptr, y_ptr, z_ptr, place, inside, base, z_base, factor, centre, shift, TWICE, MASK)
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
        total += column(g, LEVELS)
        product += column(g * z, LEVELS)
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
    g_ptr, h_ptr, y_ptr, z_ptr, table_ptr, mean_ptr, dz_ptr, dr_ptr, M, C,
    SHARED: tl.constexpr, TWICE: tl.constexpr, MASK: tl.constexpr, DZ: tl.constexpr, DR: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
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
    g = _gradient(g_ptr, h_ptr, y_ptr, z_ptr, place, inside, base, z_base, factor, centre, shift, TWICE, MASK)
    if DR:
        tl.store(dr_ptr + base + place, g.to(dr_ptr.dtype.element_ty), inside)
    if DZ:
        z = (tl.load(z_ptr + z_base + place, inside, 0.0).to(tl.float32) - centre[None, :]) * inverse[None, :]
        total = tl.load(mean_ptr + channel, real, 0.0)
        product = tl.load(mean_ptr + C + channel, real, 0.0)
        dz = factor[None, :] * (g - total[None, :] - z * product[None, :])
        tl.store(dz_ptr + base + place, dz.to(dz_ptr.dtype.element_ty), inside)


def perturb(z: Tensor, noise: LayerNoise, *, axis: int = 1) -> Twice:
    """As `reference.perturb`; z and residual float32, float16 or bfloat16, everything else float32; |delta| < 1 in the plain form."""
    # channels last in memory is no copy here
    rows = z.movedim(axis, -1).contiguous()
    residual = None if noise.residual is None else noise.residual.movedim(axis, -1).contiguous()
    given: Twice = _Perturb.apply(rows, noise.delta.contiguous(), noise.xi.contiguous(), residual, noise)  # type: ignore[no-untyped-call]
    return given[0].movedim(-1, axis), given[1].movedim(-1, axis)


class _Perturb(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        z: Tensor,
        delta: Tensor,
        xi: Tensor,
        residual: Tensor | None,
        noise: LayerNoise,
    ) -> Twice:
        """What gets a gradient is an argument of its own, contiguous; the rest of the noise is read off `noise`."""
        restarts, channels = delta.shape
        images = z.shape[0] if noise.shared else z.shape[0] // restarts
        count = images * z[0].numel() // channels
        part, rows = (None, 1) if noise.stats is None else _moments(z, 1 if noise.shared else restarts, count, channels)
        table = table_of(noise, delta, xi, part, count, rows)
        y = torch.empty(restarts * images, *z.shape[1:], dtype=z.dtype, device=z.device)
        applied(z, residual, table, y, count, noise)
        keep(ctx, z, y, residual, table, count, noise)
        return y, y.detach()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor | None, h: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None and h is None:
            return (None,) * 5
        dz, d_delta, d_xi, dr = gradients(ctx, g, h)
        if dz is not None and ctx.shared:
            dz = dz.unflatten(0, (len(d_delta), -1)).sum(0)
        return dz, d_delta, d_xi, dr, None


def _moments(z: Tensor, restarts: int, count: int, channels: int) -> tuple[Tensor, int]:
    """Mean and squares of parts of the rows, [K, P, 2, C], and how many rows a part has."""
    rows, parts = _programs(count, channels)
    part = torch.empty(restarts, parts, 2, channels, device=z.device)

    def launch(tile: Tile) -> None:
        moments[parts, triton.cdiv(channels, tile.wide), restarts](
            z, part, count, channels, rows, BM=tile.rows, BC=tile.wide, LEVELS=levels(tile.rows), num_warps=tile.warps, **OPTIONS
        )

    launch(best("moments", (restarts, count, channels, z.dtype), summed(channels), launch, z.device))
    return part, rows


def table_of(noise: LayerNoise, delta: Tensor, xi: Tensor, part: Tensor | None, count: int, rows: int) -> Tensor:
    """The numbers of every restart's channels, [K, 4, C], as `settle` makes them; part [K, P, 2, C] in the normalised form only."""
    restarts, channels = delta.shape
    table = torch.empty(restarts, 4, channels, device=delta.device)
    wide = mapped(channels)[0].wide
    settle[triton.cdiv(channels, wide), restarts](
        table if part is None else part, table if noise.bias is None else noise.bias, table if noise.stats is None else noise.stats,
        delta, xi, table, count, channels, rows, 1 if part is None else part.shape[1],
        EPS=EPS, NORM=part is not None, BIAS=noise.bias is not None, SHARED=noise.shared, BC=wide, **OPTIONS,
    )  # fmt: skip
    return table


def applied(z: Tensor, residual: Tensor | None, table: Tensor, y: Tensor, count: int, noise: LayerNoise) -> None:
    """Writes y [K * N, ..., C] from pre-activations of count rows a restart."""
    restarts, _, channels = table.shape

    def launch(tile: Tile) -> None:
        apply[triton.cdiv(count, tile.rows), triton.cdiv(channels, tile.wide), restarts](
            z, z if residual is None else residual, table, y, count, channels, SHARED=noise.shared, RESIDUAL=residual is not None,
            RELU=noise.act == "relu", BM=tile.rows, BC=tile.wide, num_warps=tile.warps, **OPTIONS,
        )  # fmt: skip

    shape = (restarts, count, channels, z.dtype, noise.shared, residual is not None)
    launch(best("apply", shape, mapped(channels), launch, z.device))


def keep(
    ctx: Any, z: Tensor | None, y: Tensor, residual: Tensor | None, table: Tensor, count: int, noise: LayerNoise, *more: Tensor
) -> None:
    """Saves what `gradients` reads, z in the normalised form only, where residual is not read again; and more, which it does not read."""
    norm, relu = noise.stats is not None, noise.act == "relu"
    mask = NONE if not relu else FROM_Y if residual is not None or not norm else FROM_Z
    keep_y = not norm or mask == FROM_Y
    read = z if norm else None, y if keep_y else None, None if norm else residual, table, noise.bias, noise.stats
    ctx.save_for_backward(*read, *more)
    # what nobody reads has no gradient, instead of one of zeros
    ctx.set_materialize_grads(False)
    ctx.shared, ctx.settings = noise.shared, (count, mask, residual is not None)


def gradients(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None]:
    """Gradients of z (of every restart, where they share it), delta, xi and residual; z and residual are arguments 0 and 3 of ctx.

    Given are those of y and of y a second time, one of them at least.
    """
    g, *others = (own.contiguous() for own in given if own is not None)
    h = others[0] if others else None
    z, y, residual, table, bias, stats = ctx.saved_tensors[:6]
    count, mask, added = ctx.settings
    restarts, _, channels = table.shape
    norm, need_z = stats is not None, ctx.needs_input_grad[0]
    need_r = added and ctx.needs_input_grad[3]
    own_r = need_r and (mask != NONE or h is not None)
    dz = torch.empty_like(g) if need_z else g
    dr = torch.empty_like(g) if own_r else g
    rows, parts = _programs(count, channels)
    part = torch.empty(restarts, parts, 2, channels, device=g.device)
    flags = {"SHARED": ctx.shared, "TWICE": h is not None, "MASK": mask}
    shape = (restarts, count, channels, g.dtype, ctx.shared, h is not None, mask, need_z, own_r, norm, residual is not None)

    def gathered(tile: Tile) -> None:
        gather[parts, triton.cdiv(channels, tile.wide), restarts](
            g, g if h is None else h, g if y is None else y, g if z is None else z, g if residual is None else residual, table, part,
            dz, dr, count, channels, rows, **flags, RESIDUAL=residual is not None, NORM=norm, DZ=need_z and not norm, DR=own_r and not norm,
            BM=tile.rows, BC=tile.wide, LEVELS=levels(tile.rows), num_warps=tile.warps, **OPTIONS,
        )  # fmt: skip

    def spread_out(tile: Tile) -> None:
        spread[triton.cdiv(count, tile.rows), triton.cdiv(channels, tile.wide), restarts](
            g, g if h is None else h, g if y is None else y, z, table, mean, dz, dr, count, channels,
            **flags, DZ=need_z, DR=own_r, BM=tile.rows, BC=tile.wide, num_warps=tile.warps, **OPTIONS,
        )  # fmt: skip

    gathered(best("gather", shape, summed(channels), gathered, g.device))
    d_delta, d_xi = torch.empty(2, restarts, channels, device=g.device)
    mean = torch.empty(restarts, 2, channels, device=g.device)
    wide = mapped(channels)[0].wide
    settle_gradient[triton.cdiv(channels, wide), restarts](
        part, table if bias is None else bias, table if stats is None else stats, d_delta, d_xi, mean, count, channels, parts,
        NORM=norm, BIAS=bias is not None, BC=wide, **OPTIONS,
    )  # fmt: skip
    if norm and (need_z or own_r):
        spread_out(best("spread", shape, mapped(channels), spread_out, g.device))
    return (dz if need_z else None), d_delta, d_xi, (dr if need_r else None)


def _programs(count: int, channels: int) -> tuple[int, int]:
    """Rows that one program sums, whole tiles of them, and how many programs."""
    tile = summed(channels)[0].rows
    own = max(TILES * tile, triton.cdiv(triton.cdiv(count, PROGRAMS), tile) * tile)
    return own, triton.cdiv(count, own)
