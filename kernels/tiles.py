"""Sizes of tiles that a kernel may run with; the first is taken where nothing was measured.

All tiles of a kernel give the same numbers to the last bit. Sums over rows are taken in an order that goes by `rows` or by a constant
(`tree`), so that tiles of a kernel that sums differ in what is left: channels, warps, stages, and whether a program stays for further
tiles. A convolution sums features in steps of `depth`, which follows from its shape, and with the same instructions whatever the tile is
(tests/kernels/test_compiled.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch

# values of a tile, where each is mapped and where they are summed: chosen by the registers and spills of the compiled kernels for sm_80,
# sm_90 and sm_100 (tests/kernels/test_compiled.py), not yet by time on a GPU
MAPPED, SUMMED = 4096, 2048
# rows whose moments a convolution finds together: every tile of one has a multiple
CHUNK = 64


@dataclass(frozen=True)
class Tile:
    """How much one program of a kernel does.

    Attributes:
        rows, wide: rows (images times places) and channels of a tile, powers of two.
        warps: of 32 threads.
        stages: of the loads in front of a product of matrices; of no account elsewhere.
        stay: programs of a convolution for each processor of the GPU, which compute one tile after the other; 0 for one to each tile.
    """

    rows: int
    wide: int
    warps: int = 4
    stages: int = 3
    stay: int = 0

    def __str__(self) -> str:
        """As it stands in the cache."""
        stay = f", {self.stay} stay" if self.stay else ""
        return f"{self.rows} x {self.wide}, {self.warps} warps, {self.stages} stages{stay}"


@cache
def mapped(channels: int) -> tuple[Tile, ...]:
    """Tiles of a kernel that maps every value."""
    wide = _wide(channels, 64)
    return tuple(Tile(size // wide, wide, warps) for size, warps in ((MAPPED, 4), (MAPPED, 8), (2048, 4), (1024, 2), (8192, 8)))


@cache
def summed(channels: int) -> tuple[Tile, ...]:
    """Tiles of a kernel that sums rows: all with the same rows."""
    wide = _wide(channels, 64)
    rows = SUMMED // wide
    found = ((wide, 8), (wide, 4), (wide // 2, 2), (2 * wide, 8))
    return _each(Tile(rows, _wide(channels, own), warps) for own, warps in found)


@cache
def convolved(channels: int, dtype: torch.dtype) -> tuple[Tile, ...]:
    """Tiles of a convolution; in float32 there are no units for products of matrices, and registers are short."""
    found: tuple[tuple[int, ...], ...]
    if dtype == torch.float32:
        found = ((64, 64, 4, 3), (64, 64, 4, 2), (64, 32, 8, 3), (64, 32, 8, 2), (64, 32, 8, 3, 2))
    else:
        found = ((128, 64, 4, 3), (64, 64, 4, 3), (64, 64, 4, 4), (128, 64, 4, 4), (128, 128, 8, 3), (64, 128, 8, 3), (128, 64, 8, 3))
        found += ((128, 64, 4, 3, 2), (128, 128, 8, 3, 1))
    return _each(Tile(rows, _wide(channels, wide), *rest) for rows, wide, *rest in found)


@cache
def processors(where: torch.device) -> int:
    """Of a GPU; elsewhere few, as tests are small."""
    return int(torch.cuda.get_device_properties(where).multi_processor_count) if where.type == "cuda" else 2


def depth(features: int, dtype: torch.dtype) -> int:
    """Features that a convolution reads at once."""
    return min(16 if dtype == torch.float32 else 64, _power(features))


def levels(rows: int) -> int:
    """How often so many rows, a power of two, are halved until one is left."""
    return rows.bit_length() - 1


def _wide(channels: int, most: int) -> int:
    return min(max(most, 16), _power(channels))


def _power(count: int) -> int:
    """The power of two that holds so many, at least 16."""
    return max(16, 1 << (count - 1).bit_length())


def _each(found: Iterable[Tile]) -> tuple[Tile, ...]:
    return tuple(dict.fromkeys(found))
