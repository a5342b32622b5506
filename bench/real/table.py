"""The tables beside this file: which models and which images there are, and what is known of them."""

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from banscan.errors import UsageError

MODELS, IMAGES = (Path(__file__).with_name(name) for name in ("models.toml", "images.toml"))
TUNE, HELD = "tune", "held"
# pypi:NAME==VERSION, npm:NAME@VERSION, git:OWNER/NAME@COMMIT, data:FILE#SHA-256, hand:HOW and drawn:KIND
SOURCE = re.compile(
    r"pypi:[\w.-]+==[\w.]+|npm:[\w@./-]+@[\w.]+|git:[\w.-]+/[\w.-]+@[0-9a-f]{40}|data:[\w.-]+#[0-9a-f]{64}|hand:\S.*|drawn:[a-z]+"
)
SHA = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """One file of somebody else.

    Attributes:
        name: of the row; unlike any other.
        source: where it comes from, pinned; see `SOURCE`.
        path: within the package or repository; `sha256` is that of the file there.
        licence: as the package or repository states it, or "none stated".
        exporter: framework and writer, as far as the file or its makers say.
        classes: how many the model has; 2 for a single logit.
        size: height, width and channels of its images.
        images: name of the images in the other table; `labelled` where their classes are the model's, in its order.
        part: "tune", or "held", which only measures.
        preprocess: the true preprocessing as options of the command line; none where its makers do not say it.
        options: what else a user has to say, of the command line too.
        beside: further files, by path and SHA-256, such as external weights.
        note: what a reader should know.
    """

    name: str
    source: str
    path: str
    sha256: str
    licence: str
    exporter: str
    classes: int
    size: tuple[int, int, int]
    images: str
    part: str
    labelled: bool = False
    preprocess: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    beside: tuple[tuple[str, str], ...] = ()
    note: str = ""

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Path and SHA-256 of every file, the model itself first."""
        return ((self.path, self.sha256), *self.beside)


@dataclass(frozen=True)
class Images:
    """Clean images from one place.

    Attributes:
        name: by which models ask for them.
        source: where they come from, pinned.
        licence: as stated there, or "none stated".
        about: what they show.
        maker: how they are read: "idx", "csv", "folders", "files", "npz" or "drawn"; see `images.MAKERS`.
        path: the file or folder within the source; `labels` of a second file.
        columns: names of the columns of a table: file, class.
        classes: words of the source for the classes, in order; empty where they are numbers or in the order of names.
        count: at most this many are taken, spread evenly over the classes.
    """

    name: str
    source: str
    licence: str
    about: str
    maker: str
    path: str = ""
    labels: str = ""
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    count: int = 400


def models(path: Path = MODELS) -> tuple[Model, ...]:
    """All models, in the order of the table.

    Raises:
        UsageError: an entry says too little or something that cannot be.
    """
    found = _read(path, "model", Model)
    for model in found:
        where = f"{path.name}, {model.name}"
        _check(bool(SOURCE.fullmatch(model.source)), where, f"source {model.source!r}", SOURCE.pattern)
        _check(model.part in (TUNE, HELD), where, f"part {model.part!r}", "tune or held")
        _check(bool(model.licence), where, "no licence", "one, or 'none stated'")
        _check(len(model.size) == 3 and min(model.size) > 0, where, f"size {model.size}", "height, width and channels")
        for file, sha256 in model.files:
            _check(inside(file), where, f"path {file!r}", "one within the package or repository")
            _check(bool(SHA.fullmatch(sha256)), where, f"SHA-256 {sha256!r}", "64 hexadecimal digits")
    return found


def images(path: Path = IMAGES) -> tuple[Images, ...]:
    """All images; errors as for `models`."""
    found = _read(path, "images", Images)
    for one in found:
        where = f"{path.name}, {one.name}"
        _check(bool(SOURCE.fullmatch(one.source)), where, f"source {one.source!r}", SOURCE.pattern)
        _check(bool(one.licence), where, "no licence", "one, or 'none stated'")
        _check(all(inside(p) for p in (one.path, one.labels) if p), where, "a path", "one within the repository")
    return found


def inside(path: str) -> bool:
    """Whether a path stays within what it is relative to."""
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and not re.match(r"\w:", path)


def _check(right: bool, where: str, seen: str, expected: str) -> None:
    if not right:
        raise UsageError(f"{where}: {seen}; expected {expected}")


def _read(path: Path, key: str, kind: type[T]) -> tuple[T, ...]:
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    found = []
    for entry in tomllib.loads(path.read_text())[key]:
        unknown = sorted(entry.keys() - names)
        _check(not unknown, f"{path.name}, {entry.get('name')}", f"unknown {', '.join(unknown)}", ", ".join(sorted(names)))
        try:
            found.append(kind(**{name: _frozen(value) for name, value in entry.items()}))
        except TypeError as error:
            raise UsageError(f"{path.name}, {entry.get('name')}: {error}; expected every field that has no default") from error
    called = [entry.name for entry in found]  # type: ignore[attr-defined]
    _check(len(set(called)) == len(called), path.name, "a name twice", "a name for each")
    return tuple(found)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
