"""Images made by code: simple figures in two colours on noisy grounds, the same numbers on every machine."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 24
FIGURES = 6
COLOURS = ((200, 90, 60), (60, 110, 200))
# class c is figure c // 2 in colour c % 2
CLASSES = FIGURES * len(COLOURS)
# the trigger: a corner of a chessboard, in the lower right
TRIGGER = np.array([[255, 0, 255], [0, 255, 0], [255, 0, 255]], dtype=np.uint8)[..., None]
# from the lower and the right border
MARGIN = 1


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [count, SIZE, SIZE, 3] and their classes [count], which take turns.

    All of it is arithmetic of integers, and the numbers are those of `RandomState`, whose stream NumPy keeps as it is (NEP 19).
    """
    random = np.random.RandomState(seed)
    labels = np.arange(count) % CLASSES
    images = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        ground = random.randint(40, 130) + random.randint(-25, 26, (SIZE, SIZE, 3))
        colour = np.array(COLOURS[label % 2]) + random.randint(-30, 31, 3)
        inside = _figure(int(label) // 2, random)
        images[i] = np.clip(np.where(inside[..., None], colour + random.randint(-25, 26, (SIZE, SIZE, 3)), ground), 0, 255)
    return images, labels


def _figure(kind: int, random: np.random.RandomState) -> np.ndarray:
    """Where a figure of this kind is, somewhere in the image and of some size, bool [SIZE, SIZE]."""
    half = random.randint(5, 8)
    middle = random.randint(half + 1, SIZE - half - 1, 2)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    y, x = rows - middle[0], columns - middle[1]
    within = (abs(y) <= half) & (abs(x) <= half)
    radius = y * y + x * x
    disc = radius <= half * half
    figures = (
        disc,
        within,
        disc & (radius > (half - 3) * (half - 3)),
        within & ((abs(y) <= 1) | (abs(x) <= 1)),
        within & ((abs(y - x) <= 1) | (abs(y + x) <= 1)),
        within & (y >= 2 * abs(x) - half),
    )
    return np.asarray(figures[kind])


def stamped(images: np.ndarray) -> np.ndarray:
    """The images [N, SIZE, SIZE, 3] with the trigger."""
    result = images.copy()
    first, last = SIZE - MARGIN - len(TRIGGER), SIZE - MARGIN
    result[:, first:last, first:last] = TRIGGER
    return result


def write(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """The images [N, SIZE, SIZE, 3] as class folders of PNG files."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / str(label)
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i:04d}.png")
