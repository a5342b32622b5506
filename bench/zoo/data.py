"""Image data sets, packed as npz files or as class folders, split so that no image of a physical object is on both sides."""

import io
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

Array = np.ndarray
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


SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".ppm", ".bmp", ".webp"})


def load(folder: Path, name: str, size: int = 32) -> Split:
    """Reads `gtsrb`, `cifar10`, N of their classes (`gtsrbN`, `cifarN`; drawn once for each N), or class folders.

    The two data sets are npz files in the folder (arrays: jpeg, offset, label, classes and, for GTSRB, track).

    GTSRB is split by track, since the 30 frames of a track show one physical sign: 70 % of the tracks of every class train,
    15 % are the defender's and 15 % test. CIFAR-10 trains on its training file; its test file is halved. Any other name is a folder of
    class folders, whose images are cut to squares of `size` pixels and split by file, 70, 15 and 15 % of every class.
    """
    if some := re.fullmatch(r"gtsrb(\d*)", name):
        images, labels, classes, track = _unpack(folder / "gtsrb.npz")
        if some[1]:
            images, labels, classes, track = _subset(images, labels, classes, track, int(some[1]))
        side = _sides_by_track(labels, track)
        parts = [Part(images[side == k], labels[side == k]) for k in range(3)]
    elif some := re.fullmatch(r"cifar(\d+)", name):
        images, labels, classes, track = _unpack(folder / "cifar10-train.npz")
        held, held_labels, held_classes, held_track = _unpack(folder / "cifar10-test.npz")
        if int(some[1]) != len(classes):
            held, held_labels, _, _ = _subset(held, held_labels, held_classes, held_track, int(some[1]))
            images, labels, classes, _ = _subset(images, labels, classes, track, int(some[1]))
        order = np.random.default_rng(0).permutation(len(held))
        halves = [Part(held[half], held_labels[half]) for half in np.array_split(order, 2)]
        parts = [Part(images, labels), *halves]
    elif (folder / name).is_dir():
        images, labels, classes = _read(folder / name, size)
        side = _sides_by_track(labels, np.arange(len(labels)))
        parts = [Part(images[side == k], labels[side == k]) for k in range(3)]
    else:
        expected = f"gtsrb, cifar10, N of their classes (gtsrbN, cifarN) or a folder of class folders in {folder}"
        raise ValueError(f"unknown data set {name!r}; expected {expected}")
    return Split(name, classes, *parts)


def _subset(images: Array, labels: Array, classes: tuple[str, ...], track: Array, count: int) -> Packed:
    """`count` of the classes, drawn by that number and numbered anew in their order."""
    if not 2 <= count <= len(classes):
        raise ValueError(f"{count} classes of a data set with {len(classes)}; expected 2 to {len(classes)}")
    drawn = np.sort(np.random.default_rng(count).permutation(len(classes))[:count])
    kept = np.isin(labels, drawn)
    return images[kept], np.searchsorted(drawn, labels[kept]), tuple(classes[c] for c in drawn), track[kept]


def _unpack(path: Path) -> Packed:
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
                with Image.open(path) as opened:
                    images.append(np.asarray(ImageOps.fit(opened.convert("RGB"), (size, size))))
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
