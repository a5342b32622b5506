"""Writes the clean images of a table's entry: as class folders, and flat for models whose classes they do not have."""

import csv
import gzip
import io
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from banscan.errors import UsageError
from bench.real import draw
from bench.real.fetch import Store, digest
from bench.real.repository import Repository
from bench.real.table import Images
from bench.zoo import data

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
DONE = "done"
# an image's class, if it has one, a name for it, and how its file's content is had
Item = tuple[int | None, str, Callable[[], bytes]]


def folder(entry: Images, store: Store, labelled: bool, others: int = 0) -> Path:
    """The folder with the images: class folders by number, or with `labelled` false all in one.

    It is written unless it is there already, whole and from the same entry of the table. With `others`, it holds at most so many that are
    not among those that it holds without: the attacker's.

    Raises:
        UsageError: their source cannot be had.
    """
    name = entry.name if labelled else f"{entry.name}-flat"
    base = store.folder / "images" / (f"{name}-{others}-others" if others else name)
    mark = base.with_name(f"{base.name}.{DONE}")
    if not mark.exists() or mark.read_text() != repr(entry):
        mark.unlink(missing_ok=True)
        shutil.rmtree(base, ignore_errors=True)
        items = list(MAKERS[entry.maker](entry, store))
        ours = picked(items, entry.count)
        if others:
            taken = {(item[0], item[1]) for item in ours}
            ours = picked([item for item in items if (item[0], item[1]) not in taken], others)
        for label, name, content in ours:
            place = base / f"{label:04d}" if labelled and label is not None else base
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content())
        mark.write_text(repr(entry))
    return base


def picked(items: Iterable[Item], count: int, seed: int = 0) -> list[Item]:
    """At most `count` items, as many of every class as there are, drawn by seed; in the order of their classes."""
    by_class: dict[int | None, list[Item]] = defaultdict(list)
    for item in items:
        by_class[item[0]].append(item)
    rng = np.random.default_rng(seed)
    turns: list[tuple[int, int, Item]] = []
    for k, label in enumerate(sorted(by_class, key=lambda c: -1 if c is None else c)):
        own = by_class[label]
        turns += [(turn, k, own[i]) for turn, i in enumerate(rng.permutation(len(own)))]
    turns.sort(key=lambda t: t[:2])
    return [item for _, _, item in sorted(turns[:count], key=lambda t: (t[1], t[2][1]))]


def _idx(entry: Images, store: Store) -> Iterable[Item]:
    """Images and labels in MNIST's own form, gzipped: a head of 16 or 8 bytes, then bytes."""
    repository = store.repository(entry.source)
    pixels, labels = (np.frombuffer(gzip.decompress(repository.read(p)), np.uint8) for p in (entry.path, entry.labels))
    height, width = (int.from_bytes(pixels[k : k + 4].tobytes()) for k in (8, 12))
    stack = pixels[16:].reshape(-1, height, width)
    return [(int(c), f"{i:05d}.png", lambda i=i: _png(stack[i])) for i, c in enumerate(labels[8:])]  # type: ignore[misc]


def _csv(entry: Images, store: Store) -> Iterable[Item]:
    """A table of files and classes; `path` is the table, files are relative to `labels`."""
    repository, (file, column) = store.repository(entry.source), entry.columns
    there = set(repository.names())
    rows = csv.DictReader(io.StringIO(repository.read(entry.path).decode()))
    for row in rows:
        word, path = row[column].lower(), f"{entry.labels}/{row[file]}"
        if path in there and (not entry.classes or word in entry.classes):
            yield (entry.classes.index(word) if entry.classes else int(word)), PurePosixPath(path).name, _reading(repository, path)


def _folders(entry: Images, store: Store) -> Iterable[Item]:
    """Class folders below `path`, in the order of `classes`, or of their names."""
    repository = store.repository(entry.source)
    found = [p for p in map(PurePosixPath, repository.names()) if p.is_relative_to(entry.path) and p.suffix.lower() in SUFFIXES]
    found = [p for p in found if len(p.relative_to(entry.path).parts) == 2]
    order = entry.classes or tuple(sorted({p.parent.name for p in found}))
    for path in found:
        yield order.index(path.parent.name), path.name, _reading(repository, str(path))


def _files(entry: Images, store: Store) -> Iterable[Item]:
    """One image for every class, in the order of their names."""
    repository = store.repository(entry.source)
    found = sorted(p for p in repository.names() if PurePosixPath(p).suffix.lower() in SUFFIXES and "/" not in p)
    return [(c, PurePosixPath(p).name, _reading(repository, p)) for c, p in enumerate(found)]


def _npz(entry: Images, store: Store) -> Iterable[Item]:
    """The defender's images of a data set that the zoo is trained on; the file of its test images is pinned."""
    name, _, sha256 = entry.source.removeprefix("data:").partition("#")
    if store.data is None or not (store.data / name).is_file():
        raise UsageError(f"{entry.name}: needs {name}; name the folder that holds it with --data")
    found = digest((store.data / name).read_bytes())
    if found != sha256:
        raise UsageError(f"{store.data / name}: has SHA-256 {found}; expected {sha256}")
    part = data.load(store.data, entry.name).defender
    return [(int(c), f"{i:05d}.png", lambda i=i: _png(part.images[i])) for i, c in enumerate(part.labels)]  # type: ignore[misc]


def _drawn(entry: Images, store: Store) -> Iterable[Item]:
    """What `draw` makes."""
    made = draw.drawn(entry.source.removeprefix("drawn:"), entry.count)
    return [(c, f"{i:05d}.png", lambda image=image: _png(np.asarray(image))) for i, (c, image) in enumerate(made)]  # type: ignore[misc]


MAKERS: dict[str, Callable[[Images, Store], Iterable[Item]]] = {
    "idx": _idx,
    "csv": _csv,
    "folders": _folders,
    "files": _files,
    "npz": _npz,
    "drawn": _drawn,
}


def _reading(repository: Repository, path: str) -> Callable[[], bytes]:
    return lambda: repository.read(path)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
