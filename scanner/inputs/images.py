"""Clean images from a folder: found, labelled, decoded and brought to the model's size, with a sentence that says what was understood."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from banscan.errors import UsageError
from banscan.importers import Input
from banscan.scanner.inputs import class_folders, decode, folder, names, table
from banscan.scanner.inputs.folder import printable, some
from banscan.scanner.inputs.labels import Labels
from banscan.scanner.settings import Options
from banscan.text import counted

# bytes of all images as uint8, where the model leaves the size to them; the networks take many times that
MOST = 512 << 20
# files that are tried for every image wanted, where many cannot be read
TRIES = 4


@dataclass(frozen=True)
class CleanSet:
    """Clean images as uint8 [N, H, W, channels] with labels [N], or None where the folder has none.

    `labelled_by` says where the labels come from, `unreadable` names the files that could not be decoded, `found` counts all that could be
    used, `names` are the classes' in the model's order where somebody gave them, `left_out` says what was not used and why, a phrase each.
    """

    images: np.ndarray
    labels: Tensor | None
    labelled_by: str
    unreadable: tuple[str, ...]
    found: int
    names: tuple[str, ...] | None = None
    told: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def different(self) -> int:
        """How many images there are when copies are not counted."""
        return len({image.tobytes() for image in self.images})

    @property
    def understood(self) -> str:
        """One sentence, without its full stop, on what was read, how it is labelled and what was left out."""
        used = len(self.images)
        count = counted(used, "image") if used == self.found else f"{used} of {counted(self.found, 'image')}"
        classes = "" if self.labels is None else f" of {counted(len(self.labels.unique()), 'class', 'classes')}"
        space = "" if self.told.startswith(",") else " "
        return "; ".join((f"{count}{classes}{space}{self.told}", *self.left_out))


def digest(images: np.ndarray, labels: Tensor) -> str:
    """SHA-256, in hexadecimal, of images and their labels [N]: what is kept of a run on these is of no use to another."""
    return hashlib.sha256(images.tobytes() + labels.numpy().tobytes()).hexdigest()


def load(
    place: Path,
    spec: Input,
    classes: int,
    options: Options,
    *,
    known: tuple[str, ...] | None = None,
    seed: int = 0,
) -> CleanSet:
    """Reads at most `options.max_images`, spread evenly over the classes and otherwise drawn by `seed`.

    Args:
        place: a folder of images, in class folders at any level, flat, or labelled by a table.
        options: those on images: `labels`, `classes`, `max_images`, `size`.
        known: the model file's own names of its classes; they count where no file of names is given and the folders are among them.

    Raises:
        UsageError: no folder, no images in it, or labels that do not fit the model's classes.
    """
    given = None if options.classes is None else names.of_file(options.classes, classes)
    both = tuple(n for n in (given, names.of_model(known)) if n is not None)
    found = folder.find(place, {name for n in both for name in n.given})
    if not found.files:
        told = "; ".join(folder.left_out(found))
        seen = f" ({told})" if told else ""
        raise UsageError(f"{place}: no images in it{seen}; expected PNG, JPEG, WebP, TIFF, BMP, GIF or other image files")
    if options.labels is not None:
        labelled = table.labelled(place, found.files, classes, options.labels, both)
    else:
        labelled = class_folders.labelled(place, found.files, classes, both)
    files, copies = _once(place, labelled, found.linked)
    if not files:
        raise UsageError(f"{place}: every image has several classes; expected each image in one class folder")
    labels = None if labelled.of is None else [labelled.of[p] for p in files]
    drawn = _drawn(labels, len(files), seed)
    decoded = _decoded(place, files, drawn, spec, options)
    stack = np.stack(decoded.images)
    stack = stack[..., None] if stack.ndim == 3 else stack
    picked = None if labels is None else torch.tensor([labels[i] for i in decoded.kept])
    left_out = (*folder.left_out(found), *labelled.left_out, *copies, *decoded.told, *_size(spec, options, stack.shape[1:3]))
    own = both[0].given if both else None
    unreadable = tuple(printable(str(p)) for p in decoded.unreadable)
    return CleanSet(stack, picked, labelled.by, unreadable, len(files), own, labelled.told, left_out)


def _once(place: Path, labelled: Labels, linked: bool) -> tuple[list[Path], tuple[str, ...]]:
    """Every file once, where links lead to it or parts of a data set repeat it; none that has several classes."""
    of, base = labelled.of or {}, place.resolve()
    groups: dict[object, list[Path]] = defaultdict(list)
    for path in labelled.taken:
        groups[(base / path).resolve() if linked else path].append(path)
    disputed = [str(p) for group in groups.values() if len({of.get(p) for p in group}) > 1 for p in group]
    files = [group[0] for group in groups.values() if len({of.get(p) for p in group}) == 1]
    alike: dict[object, list[Path]] = defaultdict(list)
    for path in files:
        alike[of.get(path), path.name].append(path)
    again = {p for group in alike.values() if len(group) > 1 for p in _repeated(place, group)}
    copies = len(labelled.taken) - len(disputed) - len(files) + len(again)
    told = [f"{counted(copies, 'copy', 'copies')} left out"] if copies else []
    if disputed:
        told.append(f"{counted(len(disputed), 'image')} left out that {'lie' if len(disputed) > 1 else 'lies'} in several class folders")
    return sorted(p for p in files if p not in again), tuple(told)


def _repeated(place: Path, group: list[Path]) -> list[Path]:
    """Of files of one name and class, those that hold what another one holds."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in group:
        with suppress(OSError):
            sizes[(place / path).stat().st_size].append(path)
    seen, again = set[str](), []
    for path in (p for same in sizes.values() if len(same) > 1 for p in same):
        with suppress(OSError), (place / path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            again += [path] if digest in seen else []
            seen.add(digest)
    return again


@dataclass(frozen=True)
class _Decoded:
    """Pixels of the files that could be read, by their places in the list of files, and those that could not."""

    images: list[np.ndarray]
    kept: list[int]
    unreadable: list[Path]
    told: tuple[str, ...]


def _decoded(place: Path, files: Sequence[Path], drawn: list[int], spec: Input, options: Options) -> _Decoded:
    """Decodes the first `max_images` files of `drawn`; others take the places of those that cannot be read."""
    images: dict[int, np.ndarray] = {}
    bad: dict[int, str] = {}
    height, width = spec.height or options.size, spec.width or options.size
    several, most = 0, options.max_images
    todo, rest = sorted(drawn[:most]), drawn[most:]
    while todo:
        for i in todo:
            try:
                picture, more = decode.picture(place / files[i], spec.channels)
            except decode.UnreadableError as error:
                bad[i] = str(error)
                continue
            if height is None or width is None:
                height, width = height or picture.height, width or picture.width
                _check_room(place, files[i], (height, width, spec.channels), min(most, len(files)))
            several += more
            images[i] = decode.fit(picture, height, width)
        wanting = max(0, min(most - len(images), TRIES * most - len(images) - len(bad)))
        todo, rest = sorted(rest[:wanting]), rest[wanting:]
    if not images:
        why = "; ".join(_reasons(bad, files))
        which = "its only image file cannot" if len(bad) == 1 else f"none of its {len(bad)} image files can"
        raise UsageError(f"{place}: {which} be read: {why}; expected intact images")
    told = (*_reasons(bad, files), *((f"the first picture of {counted(several, 'file')} with several",) if several else ()))
    kept = sorted(images)
    return _Decoded([images[i] for i in kept], kept, [files[i] for i in sorted(bad)], told)


def _reasons(bad: dict[int, str], files: Sequence[Path]) -> tuple[str, ...]:
    """Files that cannot be read, by the reason."""
    groups: dict[str, list[str]] = defaultdict(list)
    for i in sorted(bad):
        groups[bad[i]].append(str(files[i]))
    return tuple(f"{counted(len(own), 'file')} cannot be read, {why}{some(own)}" for why, own in groups.items())


def _check_room(place: Path, first: Path, shape: tuple[int, int, int], count: int) -> None:
    """Raises UsageError for images so large that all of them would fill the memory, where the model does not say their size."""
    height, width, channels = shape
    if height * width * channels * count > MOST:
        raise UsageError(
            f"{place}: images of {width}×{height} ({printable(str(first))}) for a model that takes any size; say with --size what it was "
            "trained on, or read fewer with --max-images"
        )


def _size(spec: Input, options: Options, taken: tuple[int, ...]) -> tuple[str, ...]:
    """Where the size asked for is not the model's, and where nobody said which it was made for."""
    height, width = taken
    if options.size is None and spec.sides is not None:
        low, high = spec.sides
        return (f"the model takes {low} to {high} pixels and does not say which are its own, {width}×{height} taken (--size says another)",)
    if options.size is None and None in (spec.height, spec.width):
        return (f"the model takes any size, {width}×{height} as the first image taken (--size says another)",)
    if options.size is None or None in (spec.height, spec.width) or spec.height == spec.width == options.size:
        return ()
    return (f"--size {options.size} not used, the model takes {spec.width}×{spec.height} only",)


def _drawn(labels: list[int] | None, count: int, seed: int) -> list[int]:
    """All files in the order in which they are taken: at random, as many of every class as there are."""
    shuffled = np.random.default_rng(seed).permutation(count)
    if labels is not None:
        seen: dict[int, int] = {}
        rank = np.zeros(count, dtype=np.int64)
        for i in shuffled:
            rank[i] = seen[labels[i]] = seen.get(labels[i], -1) + 1
        shuffled = shuffled[np.argsort(rank[shuffled], kind="stable")]
    return [int(i) for i in shuffled]
