"""What a model takes, from the sizes that its file gives its input."""

import math
from pathlib import Path

from banscan.errors import ModelError
from banscan.importers.model import Input

LARGEST_SIDE = 1 << 13


def image_input(path: Path, name: str, sizes: list[int | None]) -> Input:
    """The input whose image axes have these three sizes, None for a free one.

    Raises:
        ModelError: none of the outer two can be channels, or a size that no image has.
    """
    if any(size is not None and not 0 < size <= LARGEST_SIDE for size in sizes):
        raise ModelError(f"{path}: the input {name!r} is {_shown(sizes)}; expected images of at most {LARGEST_SIDE} pixels a side")
    first, second, third = sizes
    if first in (1, 3):
        return Input(name, "NCHW", int(first), second, third)
    if third in (1, 3):
        return Input(name, "NHWC", int(third), first, second)
    raise ModelError(f"{path}: the input {name!r} is {_shown(sizes)}, without an axis of 1 or 3 channels; expected grey or RGB images")


def _shown(sizes: list[int | None]) -> str:
    return "x".join(str(size or "?") for size in sizes)


def flat_input(path: Path, name: str, count: int) -> Input:
    """Square images whose values stand in one row: grey, or RGB as numpy flattens them [height, width, 3].

    Raises:
        ModelError: no square image has this many values.
    """
    for channels in (1, 3):
        side = math.isqrt(max(0, min(count, 3 * LARGEST_SIDE**2)) // channels)
        if side * side * channels == count and side > 1:
            return Input(name, "NHWC", channels, side, side, flat=True)
    raise ModelError(f"{path}: the input {name!r} is a row of {count} values, which is no square grey or RGB image; expected images")
