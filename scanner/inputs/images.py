"""Clean images from a folder: found, labelled, decoded and brought to the model's size."""

import csv
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from banscan.errors import UsageError
from banscan.importers import Input
from banscan.scanner.settings import Options

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp", ".webp"})


@dataclass(frozen=True)
class CleanSet:
    """Clean images as uint8 [N, H, W, channels] with labels [N], or None where the folder has none.

    `labelled_by` says where the labels come from, `unreadable` names the files that could not be decoded, `found` counts all files,
    `names` are the classes' in the model's order where somebody gave them.
    """

    images: np.ndarray
    labels: Tensor | None
    labelled_by: str
    unreadable: tuple[str, ...]
    found: int
    names: tuple[str, ...] | None = None

    @property
    def different(self) -> int:
        """How many images there are when copies are not counted."""
        return len({image.tobytes() for image in self.images})


def load(
    folder: Path,
    spec: Input,
    classes: int,
    options: Options,
    *,
    known: tuple[str, ...] | None = None,
    seed: int = 0,
) -> CleanSet:
    """Reads at most `options.max_images`, spread evenly over the classes and otherwise drawn by `seed`.

    Args:
        options: those on images: `labels`, `classes`, `max_images`, `size`.
        known: the model file's own names of its classes; they count where no file of names is given and all folders are among them.

    Raises:
        UsageError: no folder, no images in it, or labels that do not fit the model's classes.
    """
    names, table, size = options.classes, options.labels, options.size
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected a folder of clean images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not _hidden(p.relative_to(folder)))
    if not files:
        raise UsageError(f"{folder}: no images in it; expected {', '.join(sorted(s[1:] for s in SUFFIXES))} files")
    given = known if names is None else _names(names, classes)
    labels, labelled_by = _labels(folder, files, classes, names, table, known)
    chosen = _spread(labels, len(files), options.max_images, seed)
    images, kept, unreadable = [], [], []
    height, width = spec.height or size, spec.width or size
    for i in chosen:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(files[i]) as opened:
                    picture = _eight_bits(opened).convert("L" if spec.channels == 1 else "RGB")
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
            unreadable.append(str(files[i].relative_to(folder)))
            continue
        height, width = height or picture.height, width or picture.width
        images.append(_fit(picture, height, width))
        kept.append(i)
    if not images:
        raise UsageError(f"{folder}: none of its {len(unreadable)} image files can be read; expected intact images")
    stack = np.stack(images)
    stack = stack[..., None] if stack.ndim == 3 else stack
    picked = None if labels is None else torch.tensor([labels[i] for i in kept])
    return CleanSet(stack, picked, labelled_by, tuple(unreadable), len(files), given)


def _hidden(path: Path) -> bool:
    """What editors and archivers leave beside images, as in .ipynb_checkpoints and __MACOSX."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 bits in 8; converted as it is, it would be cut off at 255 and be all white."""
    return Image.fromarray((np.asarray(picture) // 257).astype(np.uint8)) if picture.mode.startswith("I") else picture


def _fit(picture: Image.Image, height: int, width: int) -> np.ndarray:
    """Scales the shorter side to the model's size and cuts out the middle."""
    if picture.size != (width, height):
        ratio = max(width / picture.width, height / picture.height)
        scaled = max(width, round(picture.width * ratio)), max(height, round(picture.height * ratio))
        picture = picture.resize(scaled, Image.Resampling.BILINEAR)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        picture = picture.crop((left, top, left + width, top + height))
    return np.asarray(picture)


def _labels(
    folder: Path, files: list[Path], classes: int, names: Path | None, table: Path | None, known: tuple[str, ...] | None
) -> tuple[list[int] | None, str]:
    if table is not None:
        return _from_table(folder, files, classes, table), f"labels from {table.name}"
    folders = sorted({p.parent.relative_to(folder).parts[0] for p in files if p.parent != folder})
    if not folders:
        return None, "no labels: the model's own predictions serve as labels"
    if any(p.parent == folder for p in files):
        raise UsageError(f"{folder}: images beside class folders; expected either class folders only or a flat folder")
    named = {_plain(name): i for i, name in enumerate(known or ())}
    if names is not None:
        index, how = {name: i for i, name in enumerate(_names(names, classes))}, f"labels from folder names by {names.name}"
        unknown = [f for f in folders if f not in index]
        if unknown:
            raise UsageError(f"{names}: the folder {unknown[0]!r} is not in it; expected one class name per line, in the model's order")
    elif all(_plain(f) in named for f in folders):
        index, how = {f: named[_plain(f)] for f in folders}, "labels from folder names by the model file"
    elif all(f.isdecimal() for f in folders):
        index, how = {f: int(f) for f in folders}, "labels from folder numbers"
        beyond = [f for f in folders if index[f] >= classes]
        if beyond:
            raise UsageError(f"{folder}: the folder {beyond[0]!r} is no class of this model, which has classes 0 to {classes - 1}")
    elif len(folders) == classes:
        index, how = {f: i for i, f in enumerate(folders)}, "labels from the sorted order of the folder names"
    else:
        raise UsageError(
            f"{folder}: {len(folders)} class folders for a model of {classes} classes; number the folders or give --classes FILE"
        )
    return [index[p.relative_to(folder).parts[0]] for p in files], how


def _plain(name: str) -> str:
    """A class's name; of a number without leading zeros."""
    return str(int(name)) if name.isdecimal() else name


def _names(path: Path, classes: int) -> tuple[str, ...]:
    names = tuple(_lines(path))
    if len(names) != classes or len(set(names)) != classes:
        what = f"{len(set(names))} names for {classes} classes"
        raise UsageError(f"{path}: {what}; expected one class name per line, in the model's order")
    return names


def _lines(path: Path) -> list[str]:
    try:
        # spreadsheets put a mark of the encoding in front
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read; expected a text file in UTF-8") from error


def _from_table(folder: Path, files: list[Path], classes: int, table: Path) -> list[int]:
    given: dict[str, int] = {}
    for number, line in enumerate(csv.reader(_lines(table)), 1):
        if number == 1 and len(line) == 2 and not line[1].strip().lstrip("-").isdecimal():
            continue  # a heading
        if len(line) != 2 or not line[1].strip().isdecimal() or int(line[1]) >= classes:
            raise UsageError(f"{table}: line {number} is {','.join(line)!r}; expected file,label with a label from 0 to {classes - 1}")
        given[Path(line[0].strip()).as_posix()] = int(line[1])
    missing = [p for p in files if p.relative_to(folder).as_posix() not in given]
    if missing:
        raise UsageError(f"{table}: no label for {missing[0].relative_to(folder)}; expected a line for every image in {folder}")
    return [given[p.relative_to(folder).as_posix()] for p in files]


def _spread(labels: list[int] | None, count: int, limit: int, seed: int) -> list[int]:
    """Indices of at most `limit` files, as many of every class as there are, in the order of the files."""
    shuffled = np.random.default_rng(seed).permutation(count)
    if labels is not None:
        seen: dict[int, int] = {}
        rank = np.zeros(count, dtype=np.int64)
        for i in shuffled:
            rank[i] = seen[labels[i]] = seen.get(labels[i], -1) + 1
        shuffled = shuffled[np.argsort(rank[shuffled], kind="stable")]
    return sorted(int(i) for i in shuffled[:limit])
