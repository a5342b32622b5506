"""Folders of small pictures whose colour says which class they are of."""

from pathlib import Path

import numpy as np
from PIL import Image

from banscan.importers import Input
from banscan.scanner.inputs import images
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.settings import Options

SPEC = Input("x", "NCHW", 3, 16, 16)


def picture(path: Path, value: int = 100, size: tuple[int, int] = (16, 16)) -> Path:
    """Writes a picture with this much red in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255 - value)).save(path)
    return path


def load(folder: Path, count: int, /, known: tuple[str, ...] | None = None, **options: object) -> CleanSet:
    """The images of a folder for a model of so many classes that takes 16×16 pixels."""
    return images.load(folder, SPEC, count, Options(**options), known=known)  # type: ignore[arg-type]


def red(clean: CleanSet) -> list[int]:
    """How much red there is in each image."""
    return np.asarray(clean.images[:, 0, 0, 0]).tolist()  # type: ignore[no-any-return]


def labels(clean: CleanSet) -> list[int]:
    """The labels of all images."""
    assert clean.labels is not None
    return clean.labels.tolist()  # type: ignore[no-any-return]
