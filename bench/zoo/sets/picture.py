"""Image files as square arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Array = np.ndarray
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".ppm", ".bmp", ".webp"})


def square(path: Path, size: int, *, stretched: bool = False) -> Array:
    """One image, uint8 [size, size, 3]: cut to a square in its middle, or stretched to one.

    Raises:
        ValueError: the file is not there or is no image.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else "not an image that can be read"
        raise ValueError(f"{path}: {what}; expected an image, so unpack the data set's archive again") from error
    wanted = (size, size)
    return np.asarray(image.resize(wanted, Image.Resampling.BILINEAR) if stretched else ImageOps.fit(image, wanted))


def stack(paths: Sequence[Path], size: int, *, stretched: bool = False) -> Array:
    """Images, uint8 [N, size, size, 3]."""
    made = np.empty((len(paths), size, size, 3), np.uint8)
    for k, path in enumerate(paths):
        made[k] = square(path, size, stretched=stretched)
    return made


def files(folder: Path) -> Iterator[Path]:
    """The image files of a folder by name."""
    return (path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES)


def needed(path: Path, what: str) -> Path:
    """The path, if it is there; `what` says what it belongs to and where that comes from.

    Raises:
        ValueError: there is no such file or folder.
    """
    if not path.exists():
        raise ValueError(f"{path} is missing; expected {what}")
    return path
