"""Image data sets, packed as npz files, as their makers' archives unpack, or as class folders.

They are split so that no image of a physical object is on both sides.
"""

import io
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from bench.zoo.sets import cifar, gtsrb, imagenet, tiny
from bench.zoo.sets.picture import SUFFIXES, Array, square

# images, labels, classes, tracks
Packed = tuple[Array, Array, tuple[str, ...], Array]


@dataclass(frozen=True)
class Part:
    """One side of a split: images uint8 [N, H, W, 3] and labels int64 [N]."""

    images: Array
    labels: Array


@dataclass(frozen=True)
class Split:
    """Training, defender and test images; the defender's are never trained on, the test images serve ASR and accuracy."""

    name: str
    classes: tuple[str, ...]
    train: Part
    defender: Part
    test: Part


# how many classes, and which draw of them where it is not the first
SUBSET = r"\d+[b-z]?"
# of the training images of unpacked archives, the defender's, as in the paper (Appendix B.2)
DEFENDER = 0.1


def load(folder: Path, name: str, size: int = 32) -> Split:
    """Reads `gtsrb`, `cifar10`, N of their classes (`gtsrbN`, `cifarN`), `tinyimagenet`, `imagenetN`, or class folders.

    Classes are drawn once for each N; with a letter from b on behind it, `cifar3b`, anew. The first two are npz files in the folder
    (arrays: jpeg, offset, label, classes and, for GTSRB, track): GTSRB is split by track, since the 30 frames of a track show one
    physical sign: 70 % of the tracks of every class train, 15 % are the defender's and 15 % test. CIFAR-10 trains on its training file;
    its test file is halved.

    Where there is no such file, and for `tinyimagenet` and `imagenetN`, the data set's own archive is read as it unpacks (see `sets`).
    Then the split is the paper's: 10 % of the training images (of GTSRB, of the tracks) are the defender's, and the test images are the
    data set's own.

    Any other name is a folder of class folders, split by file, 70, 15 and 15 % of every class. Images are squares of `size` pixels but for
    the npz files, which have 32, and CIFAR-10.

    Raises:
        ValueError: no such data set, or one that is not whole.
    """
    if some := re.fullmatch(rf"gtsrb({SUBSET})?", name):
        return _gtsrb(folder, name, size, _numbers(some[1]) if some[1] else None)
    if some := re.fullmatch(rf"cifar({SUBSET})", name):
        return _cifar(folder, name, _numbers(some[1]))
    if name == "tinyimagenet":
        (images, labels), test, classes = tiny.read(folder, size)
        return Split(name, classes, *_held(images, labels, np.arange(len(labels))), Part(*test))
    if (some := re.fullmatch(r"imagenet(\d+)", name)) and not (folder / name).is_dir():
        *parts, classes = imagenet.read(folder, size, int(some[1]), DEFENDER)
        return Split(name, classes, *(Part(*part) for part in parts))
    if (folder / name).is_dir():
        images, labels, classes = _read(folder / name, size)
        side = _sides_by_track(labels, np.arange(len(labels)))
        return Split(name, classes, *(Part(images[side == k], labels[side == k]) for k in range(3)))
    expected = f"gtsrb, cifar10, N of their classes (gtsrbN, cifarN), tinyimagenet, imagenetN or a folder of class folders in {folder}"
    raise ValueError(f"unknown data set {name!r}; expected {expected}")


def missing(folder: Path, name: str) -> str | None:
    """What a named data set would be read from, where the folder holds nothing of it; nothing is read."""
    makers = {"gtsrb": (gtsrb.there, gtsrb.WANTED), "cifar": (cifar.there, cifar.WANTED)}
    makers |= {"tinyimagenet": (tiny.there, tiny.WANTED), "imagenet": (imagenet.there, imagenet.WANTED)}
    of = re.sub(rf"{SUBSET}$", "", name)
    there, wanted = makers[of]
    packed = {"gtsrb": "gtsrb.npz", "cifar": "cifar10-train.npz"}.get(of)
    return None if there(folder) or (packed is not None and (folder / packed).exists()) else f"expected {wanted}"


def _numbers(subset: str) -> tuple[int, ...]:
    """How many classes, and what other draws of them are drawn by."""
    draw = subset.lstrip("0123456789")
    return int(subset.removesuffix(draw)), *(ord(letter) - ord("a") for letter in draw)


def _gtsrb(folder: Path, name: str, size: int, count: tuple[int, ...] | None) -> Split:
    """All classes, or so many of them; see `_numbers`."""
    packed = folder / "gtsrb.npz"
    if not packed.exists() and gtsrb.there(folder):
        (images, labels, track), test, classes = gtsrb.read(folder, size)
        if count is not None:
            every = classes
            images, labels, classes, track = _subset(images, labels, every, track, count)
            test = _subset(*test, every, test[1], count)[:2]
        return Split(name, classes, *_held(images, labels, track), Part(*test))
    images, labels, classes, track = _unpack(packed)
    if count is not None:
        images, labels, classes, track = _subset(images, labels, classes, track, count)
    side = _sides_by_track(labels, track)
    return Split(name, classes, *(Part(images[side == k], labels[side == k]) for k in range(3)))


def _cifar(folder: Path, name: str, count: tuple[int, ...]) -> Split:
    """So many of the ten classes; see `_numbers`."""
    packed = folder / "cifar10-train.npz"
    if not packed.exists() and cifar.there(folder):
        (images, labels), test, classes = cifar.read(folder)
        if count[0] != len(classes):
            every = classes
            test = _subset(*test, every, test[1], count)[:2]
            images, labels, classes, _ = _subset(images, labels, every, labels, count)
        return Split(name, classes, *_held(images, labels, np.arange(len(labels))), Part(*test))
    images, labels, classes, track = _unpack(packed)
    held, held_labels, held_classes, held_track = _unpack(folder / "cifar10-test.npz")
    if count[0] != len(classes):
        held, held_labels, _, _ = _subset(held, held_labels, held_classes, held_track, count)
        images, labels, classes, _ = _subset(images, labels, classes, track, count)
    order = np.random.default_rng(0).permutation(len(held))
    halves = [Part(held[half], held_labels[half]) for half in np.array_split(order, 2)]
    return Split(name, classes, Part(images, labels), *halves)


def _held(images: Array, labels: Array, track: Array) -> tuple[Part, Part]:
    """What is left for training, and the defender's part of the tracks of every class."""
    rng = np.random.default_rng(0)
    held = np.zeros(len(labels), dtype=bool)
    for c in np.unique(labels):
        own = labels == c
        tracks = rng.permutation(np.unique(track[own]))
        held |= own & np.isin(track, tracks[: max(1, round(DEFENDER * len(tracks)))])
    return Part(images[~held], labels[~held]), Part(images[held], labels[held])


def _subset(images: Array, labels: Array, classes: tuple[str, ...], track: Array, count: tuple[int, ...]) -> Packed:
    """So many of the classes, drawn by these numbers and numbered anew in their order."""
    if not 2 <= count[0] <= len(classes):
        raise ValueError(f"{count[0]} classes of a data set with {len(classes)}; expected 2 to {len(classes)}")
    drawn = np.sort(np.random.default_rng(count).permutation(len(classes))[: count[0]])
    kept = np.isin(labels, drawn)
    return images[kept], np.searchsorted(drawn, labels[kept]), tuple(classes[c] for c in drawn), track[kept]


def _unpack(path: Path) -> Packed:
    if not path.exists():
        known = "the unpacked archives of CIFAR-10 (cifar-10-batches-bin) and GTSRB (GTSRB)"
        raise ValueError(f"{path} is missing; expected that file or, in its folder, {known}")
    with np.load(path, allow_pickle=False) as packed:
        arrays = {key: packed[key] for key in packed.files}
    blob, offset = arrays["jpeg"].tobytes(), arrays["offset"]
    images = np.stack([np.asarray(Image.open(io.BytesIO(blob[start:end])).convert("RGB")) for start, end in pairwise(offset)])
    labels = arrays["label"].astype(np.int64)
    return images, labels, tuple(str(c) for c in arrays["classes"]), arrays.get("track", np.arange(len(labels)))


def _read(folder: Path, size: int) -> tuple[Array, Array, tuple[str, ...]]:
    """All images below the class folders, in the order of their names."""
    classes = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
    images, labels = [], []
    for c, name in enumerate(classes):
        for path in sorted((folder / name).rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                images.append(square(path, size))
                labels.append(c)
    return np.stack(images), np.asarray(labels, dtype=np.int64), classes


def _sides_by_track(labels: Array, track: Array) -> Array:
    rng = np.random.default_rng(0)
    side = np.zeros(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        tracks = rng.permutation(np.unique(track[labels == c]))
        held = max(1, round(0.15 * len(tracks)))
        side[(labels == c) & np.isin(track, tracks[:held])] = 1
        side[(labels == c) & np.isin(track, tracks[held : 2 * held])] = 2
    return side
