"""Which models a command line means: files, folders of them, and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from banscan.errors import ModelError, UsageError
from banscan.files import check_file, check_folder
from banscan.scanner.places.place import check as check_elsewhere
from banscan.scanner.places.place import elsewhere
from banscan.text import counted

EXPECTED = "expected a model, a folder of models or a pattern"
# what other programs keep models in: banscan does not read it, and a folder may hold it beside models that it reads
OTHERS = frozenset(
    {".h5", ".hdf5", ".keras", ".tflite", ".pb", ".safetensors", ".pth", ".ckpt", ".mlmodel", ".engine", ".plan", ".pdmodel", ".ort"}
)


@dataclass(frozen=True)
class Listed:
    """The models, sorted, and a sentence for everything that was left out."""

    models: tuple[Path, ...]
    notes: tuple[str, ...]


def listed(given: Sequence[Path]) -> Listed:
    """The models that these words name; a folder counts with everything below it, hidden files left out.

    Raises:
        UsageError: one of them names nothing, or a model is named twice.
        ModelError: a folder is a model of another program.
    """
    found: dict[str, Path] = {}
    notes = []
    for word in given:
        models, others, closed = _named(word)
        notes += [f"{folder}: left out, it may not be read; give banscan the right to it" for folder in closed]
        if others:
            kinds = ", ".join(sorted({other.suffix.lower() for other in others}))
            notes.append(f"{word}: left out {counted(len(others), 'file')} of kinds that banscan does not read ({kinds})")
        for model in models:
            own = os.path.realpath(model)
            if own in found:
                raise UsageError(f"{model}: given twice{'' if found[own] == model else f', as {found[own]}'}; name it once")
            found[own] = model
    return Listed(tuple(sorted(found.values())), tuple(notes))


def check(given: Sequence[Path]) -> None:
    """Raises UsageError for the first of these words that is neither a file nor a folder nor a pattern, nor a model elsewhere."""
    for word in given:
        if elsewhere(word):
            check_elsewhere(word)
        elif not word.is_dir() and not _pattern(word):
            check_file(word, EXPECTED)


def several(given: Sequence[Path]) -> bool:
    """Whether these words mean more than one file, or may."""
    return len(given) != 1 or given[0].is_dir() or _pattern(given[0])


# models, files beside them that are of other kinds, and folders that may not be read
_Inside = tuple[list[Path], list[Path], list[Path]]


def _named(word: Path) -> _Inside:
    """What one word names."""
    if word.is_dir():
        return _folder(word)
    if elsewhere(word) or not _pattern(word):
        check((word,))
        return [word], [], []
    matching = sorted(Path(name) for name in glob.glob(str(word), recursive=True))
    files = [path for path in matching if path.is_file()]
    if not files:
        raise UsageError(f"{word}: matches no file; {EXPECTED}")
    return files, [], []


def _pattern(word: Path) -> bool:
    return glob.has_magic(str(word)) and not os.path.lexists(word)


def _folder(folder: Path) -> _Inside:
    from banscan.importers.formats import FORMATS
    from banscan.importers.unsupported import told

    check_folder(folder, EXPECTED)
    suffixes = frozenset(suffix for format_ in FORMATS for suffix in format_.suffixes)
    closed: list[Path] = []
    files = sorted(_below(folder, closed))
    models = [path for path in files if path.suffix.lower() in suffixes]
    if models:
        return models, [path for path in files if path.suffix.lower() in OTHERS], sorted(closed)
    why = told(folder)
    if why is not None:
        raise ModelError(f"{folder}: {why}")
    raise UsageError(f"{folder}: no model files in it; expected some that end in {', '.join(sorted(suffixes))}")


def _below(folder: Path, closed: list[Path]) -> Iterator[Path]:
    """The files below a folder and what links in it lead to, each folder once; those that may not be read are put into `closed`."""
    seen: set[str] = set()

    def lost(error: OSError) -> None:
        closed.append(Path(error.filename))

    for place, inner, names in os.walk(folder, onerror=lost, followlinks=True):
        own = os.path.realpath(place)
        if own in seen:
            inner.clear()
            continue
        seen.add(own)
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(place) / name for name in names if not name.startswith("."))
