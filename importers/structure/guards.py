"""Whether a switch is an ordinary guard: what an image has to be for it to take its other state."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

# whether an image [1, ...] sets a switch to the state in question
Sets = Callable[[np.ndarray], bool]
Block = tuple[slice, ...]
# blocks along each side that an image without content is filled by, and the share of them that has to stay empty
BLOCKS, EMPTY = 8, 0.5
# images whose pixels are rescaled, and the share of what is shown that may not follow
FEW, REST = 6, 1e-3


def plain(like: np.ndarray, within: tuple[float, float]) -> Iterator[np.ndarray]:
    """Images like this one, of one value: none, black, white, and grey."""
    low, high = within
    if np.isfinite([low, high]).all() and like.dtype.kind == "f":
        for level in dict.fromkeys((min(max(0.0, low), high), low, high, (low + high) / 2)):
            yield np.full_like(like, level)


def against_nothing(sets: Sets, like: np.ndarray, within: tuple[float, float]) -> bool:
    """Whether images without content set a switch, and no longer do once some part of them, wherever it is, has content.

    A division by the spread of an image, or a dark picture that gets no answer, is guarded so; a division by the norm of features, or an
    answer without confidence, with features or scores for images. A detector of a trigger is set by an image of the trigger's colour as
    well, but goes on to be when all around the trigger is filled.

    Args:
        like: a clean image or what a network makes of it, [1, ...].
        within: the smallest and the largest value that it can have.
    """
    rng = np.random.default_rng(0)
    for image in plain(like, within):
        if not sets(image):
            continue
        filled = rng.uniform(*within, size=like.shape).astype(like.dtype)
        if len(needed(sets, image, filled)) >= EMPTY * len(list(blocks(like.shape))):
            return True
    return False


def needed(sets: Sets, image: np.ndarray, filled: np.ndarray) -> list[Block]:
    """The blocks of an image [1, ...] that sets a switch which have to stay for it, where the others are taken from another."""
    found, rng = [], np.random.default_rng(0)
    parts = list(blocks(image.shape))
    for k in rng.permutation(len(parts)):
        other = image.copy()
        other[parts[k]] = filled[parts[k]]
        if sets(other):
            image = other
        else:
            found.append(parts[k])
    return found


def blocks(shape: tuple[int, ...]) -> Iterator[Block]:
    """Parts of an image, its channels whole; of a row of pixels, parts of it."""
    channels_last = len(shape) == 4 and shape[-1] in (1, 3)
    axes = (1, 2) if channels_last else (2, 3) if len(shape) == 4 else (len(shape) - 1,)
    ends = [np.linspace(0, shape[a], min(BLOCKS if len(axes) > 1 else BLOCKS**2, shape[a]) + 1).astype(int) for a in axes]
    cuts = [list(pairwise(e)) for e in ends]
    for row in cuts[0]:
        for column in cuts[1] if len(axes) > 1 else [(0, 1)]:
            block = [slice(None)] * len(shape)
            block[axes[0]] = slice(*row)
            if len(axes) > 1:
                block[axes[1]] = slice(*column)
            yield tuple(block)


def between_scales(
    sets: Sets, classed: Callable[[np.ndarray], int], images: np.ndarray, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> bool:
    """Whether a switch chooses between two scales of the pixels: images in the other scale set it, and are seen as they were.

    Args:
        classed: the class of an image [1, ...].
        images: clean images [N, ...].
        before, after: what the network is shown of each of them, as it is and with the switch set.
    """
    if not images.size or any(a.shape != b.shape or a.dtype.kind != "f" for a, b in zip(before, after, strict=True)):
        return False
    x, y = (np.concatenate([v.reshape(-1) for v in shown]).astype(np.float64) for shown in (before, after))
    if not x.size or not np.isfinite([x, y]).all() or x.std() == 0 or y.std() == 0:
        return False
    scale = float(((x - x.mean()) * (y - y.mean())).mean() / x.var())
    offset = float(y.mean() - scale * x.mean())
    if scale <= 0 or float(np.sqrt(((scale * x + offset - y) ** 2).mean())) > REST * float(y.std()):
        return False
    own = [classed(image[None]) for image in images[:FEW]]
    for factor, shift in ((scale, offset), (1 / scale, -offset / scale)):
        others = [(factor * image[None] + shift).astype(image.dtype) for image in images[:FEW]]
        if all(sets(image) for image in others) and [classed(image) for image in others] == own:
            return True
    return False
