"""The image files of a folder: what is one, what programs leave beside them, where links lead."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from banscan import files
from banscan.errors import UsageError
from banscan.scanner.inputs import decode, given, words
from banscan.text import counted

# a folder with more entries is not one of images
MOST = 5_000_000
# places without a name of their own
HIDDEN, COPIES = "/hidden", "/copies"
# names that a sentence shows
SHOWN = 3


@dataclass
class Found:
    """What is in a folder.

    Attributes:
        files: image files, relative to the folder, sorted.
        others: names of the files that are no images.
        beside: how many images there are in places that programs keep for themselves, by the name of the place.
        unread: how many files of a format that cannot be decoded, by suffix; `holders`, of files that may hold many images.
        linked: whether links lead to any of them.
        lost: links that lead nowhere; `loops`, those that lead to what was read already; `closed`, folders that may not be read;
            `special`, pipes and the like.
    """

    files: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    beside: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    holders: Counter[str] = field(default_factory=Counter)
    linked: bool = False
    lost: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)


def find(folder: Path, named: Collection[str] = ()) -> Found:
    """Every image file of a folder and of those that links in it lead to, each folder once.

    Args:
        named: names that classes have; a folder of such a name is read, whatever programs use the name for.

    Raises:
        UsageError: it is no folder, may not be read, or holds no end of files.
    """
    files.check_folder(folder, given.IMAGES)
    found = Found()
    own = folder.resolve()
    todo, links, seen = [Path()], list[Path](), set[str]()
    entries = 0
    while todo or links:
        # folders themselves before those that links lead to, so that each is read under its own name
        place = todo.pop() if todo else links.pop(0)
        real = str((folder / place).resolve())
        if real in seen or (place.parts and own.is_relative_to(real)):
            found.loops.append(str(place))
            continue
        seen.add(real)
        for entry in _entries(folder, place, found):
            entries += 1
            if entries > MOST:
                raise UsageError(f"{folder}: more than {MOST} files; expected a folder of clean images, or of links to them")
            try:
                _take(entry, place, found, todo, links, named)
            except OSError:  # a link in a circle
                found.lost.append(str(place / entry.name))
        links.sort()
    _drop_small(found)
    found.files.sort()
    return found


def _entries(folder: Path, place: Path, found: Found) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder / place) as listing:
            yield from sorted(listing, key=lambda entry: entry.name)
    except OSError:
        found.closed.append(str(place))


def _take(entry: os.DirEntry[str], place: Path, found: Found, todo: list[Path], links: list[Path], named: Collection[str]) -> None:
    """Puts one entry of a folder where it belongs."""
    path = place / entry.name
    found.linked |= entry.is_symlink()
    if entry.is_dir():
        if _left_behind(entry.name) and entry.name not in named:
            found.beside[entry.name] += _images_below(entry.path)
        else:
            (links if entry.is_symlink() else todo).append(path)
    elif not entry.is_file():
        (found.lost if entry.is_symlink() else found.special).append(str(path))
    elif entry.name.startswith("."):
        found.beside[HIDDEN] += path.suffix.lower() in words.IMAGES
    elif entry.name.lower() not in words.FILES_LEFT_BEHIND:
        _sort(path, entry.path, found)


def _left_behind(name: str) -> bool:
    low = name.lower()
    return name.startswith(words.MARKS) or low in words.LEFT_BEHIND or low in words.THUMBNAILS


def _sort(path: Path, where: str, found: Found) -> None:
    """A file by its suffix, or by its content where that says nothing."""
    suffix = path.suffix.lower()
    if suffix in decode.suffixes():
        found.files.append(path)
    elif suffix in words.OTHERS or suffix in words.IMAGES:
        found.unread[suffix] += 1
    elif suffix in words.HOLDERS:
        found.holders[suffix] += 1
    elif decode.is_image(Path(where)):
        found.files.append(path)
    else:
        found.others.append(str(path))


def _images_below(place: str) -> int:
    """Image files in a folder that is left out; links in it are not followed."""
    return sum(Path(name).suffix.lower() in words.IMAGES for _, _, names in os.walk(place) for name in names)


def _drop_small(found: Found) -> None:
    """Leaves out small copies that lie beside their originals."""
    if not any(end in path.stem.lower() for path in found.files for end in words.SMALL):
        return
    stems = {path.parent / path.stem for path in found.files}

    def small(path: Path) -> bool:
        end = next((e for e in words.SMALL if path.stem.lower().endswith(e)), None)
        return end is not None and path.parent / path.stem[: -len(end)] in stems

    copies = {path for path in found.files if small(path)}
    found.files = [path for path in found.files if path not in copies]
    found.beside[COPIES] += len(copies)


def left_out(found: Found) -> tuple[str, ...]:
    """What was left out and why, a phrase each."""
    told = []
    if found.beside.total():
        told.append(f"{', '.join(_beside(name, count) for name, count in sorted(found.beside.items()) if count)} left out")
    if found.unread:
        what = ", ".join(counted(n, f"{suffix} file") for suffix, n in sorted(found.unread.items()))
        told.append(f"{what} left out, which cannot be decoded here: convert them to PNG or JPEG")
    if found.holders:
        what = ", ".join(counted(n, f"{suffix} file") for suffix, n in sorted(found.holders.items()))
        told.append(f"{what} left out: expected images as single files")
    if found.others:
        are = "is no image" if len(found.others) == 1 else "are no images"
        told.append(f"{counted(len(found.others), 'file')} {are}{some(found.others)}")
    if found.lost:
        told.append(f"{counted(len(found.lost), 'link')} to nowhere{some(found.lost)}")
    if found.loops:
        told.append(f"{counted(len(found.loops), 'link')} to what was read already{some(found.loops)}")
    if found.special:
        told.append(f"{counted(len(found.special), 'pipe or socket', 'pipes or sockets')} left out{some(found.special)}")
    if found.closed:
        told.append(f"{counted(len(found.closed), 'folder')} may not be read{some(found.closed)}")
    return tuple(told)


def _beside(name: str, count: int) -> str:
    """So many images in a place that programs keep for themselves."""
    if name == HIDDEN:
        return counted(count, "hidden file")
    if name == COPIES:
        return f"{counted(count, 'thumbnail')} beside the images"
    return f"{counted(count, 'thumbnail' if name.lower() in words.THUMBNAILS else 'image')} in {printable(name)}"


def some(names: Collection[str]) -> str:
    """The first of these names, in brackets."""
    first = [printable(name) for name in list(names)[:SHOWN]]
    return f" ({', '.join(first)}{', …' if len(names) > SHOWN else ''})"


def printable(name: str) -> str:
    """A file's name, with escapes for bytes that are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()
