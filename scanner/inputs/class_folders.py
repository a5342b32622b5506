"""Labels from folders: at which level the class folders are, and which class each stands for."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from banscan.errors import UsageError
from banscan.scanner.inputs import words
from banscan.scanner.inputs.folder import printable, some
from banscan.scanner.inputs.labels import Labels, based, from_one
from banscan.scanner.inputs.names import Names, is_number, unpadded
from banscan.text import counted

# "07"; "class_7"; "7_stop"; "stop_7"
COUNTED, PREFIXED, LEADING, TRAILING = (
    re.compile(p) for p in (r"()(\d+)", r"(\D*?)[ ._\-]*(\d+)", r"()(\d+)[ ._\-]+.*", r"().*\D[ ._\-]+(\d+)")
)
# of the images, what may lie in folders that are no class, and beside the class folders
STRAY, LOOSE = 0.1, 0.5
# parts of a data set that are named one by one
SHOWN = 4


@dataclass(frozen=True)
class Reading:
    """How the folders at one level can be read as classes.

    Attributes:
        index: class of a folder; `stray`, folders that are none.
        named: whether classes are called so; `parts`, whether it is rather parts of a data set that are.
    """

    level: int
    index: dict[str, int]
    stray: tuple[str, ...]
    by: str
    told: str
    named: bool = False
    parts: bool = False

    @property
    def worth(self) -> tuple[bool, bool, int, int]:
        """Names count more than numbers, many classes more than few, folders further up more than those below."""
        return self.named, not self.parts, len(set(self.index.values())), -self.level


def labelled(folder: Path, files: list[Path], classes: int, names: tuple[Names, ...]) -> Labels:
    """The labels of files below a folder.

    Args:
        files: relative to the folder.
        names: of the classes, those of the user first.

    Raises:
        UsageError: the folders can be no classes of this model.
    """
    depth = max(len(p.parts) for p in files) - 1
    readings = [r for level in range(depth) for r in _readings(_counts(files, level), level, classes, names)]
    best = max(readings, key=lambda r: r.worth, default=None)
    loose, below = [p for p in files if len(p.parts) == 1], [p for p in files if len(p.parts) > 1]
    flat = len(loose) > LOOSE * len(files)
    if flat and (best is None or len(below) <= STRAY * len(files)):
        return _flat(loose, below)
    if flat:
        raise UsageError(f"{folder}: images beside class folders; expected either class folders only or a flat folder")
    if best is not None:
        return _apply(files, best)
    strict = any(n.strict for n in names)
    if all(_wraps(_folders(files, level), strict) for level in range(depth)):
        return _flat(files, [])
    raise UsageError(_no_classes(folder, files, depth, classes, names))


def _wraps(folders: set[str], strict: bool) -> bool:
    """Whether folders of one level hold all images together, without saying more of them."""
    return folders <= words.WRAPPERS or (len(folders) == 1 and not strict and not any(map(is_number, folders)))


def _flat(files: list[Path], others: list[Path]) -> Labels:
    places = sorted({p.parts[0] for p in others})
    told = (f"{counted(len(others), 'image')} in folders left out{some(places)}",) if others else ()
    why = "no labels: the model's own predictions serve as labels"
    return Labels(None, files, why, f", {why}", told)


def _counts(files: Iterable[Path], level: int) -> Counter[str]:
    """How many files there are below every folder of a level."""
    return Counter(p.parts[level] for p in files if len(p.parts) > level + 1)


def _folders(files: Iterable[Path], level: int) -> set[str]:
    return {name.lower() for name in _counts(files, level)}


def _readings(counts: Counter[str], level: int, classes: int, names: tuple[Names, ...]) -> list[Reading]:
    """Every way to read the folders of a level as classes."""
    found = []
    for given in names:
        index = {f: c for f in counts if (c := given.of(f)) is not None}
        stray = _stray(counts, index, classes)
        if stray is not None:
            told = f"in class folders named by {given.by}"
            found.append(Reading(level, index, stray, f"labels from folder names by {given.by}", told, named=True))
        if given.strict and index:
            return found
    numbered = [_numbered(counts, form, level, classes) for form in (COUNTED, PREFIXED, LEADING, TRAILING)]
    found += [r for r in numbered if r is not None]
    if found or any(n.strict for n in names):
        return found
    if sum(map(is_number, counts)) > len(counts) / 2:  # numbers that fit no class are a mistake, not names
        return found
    rest = {f: n for f, n in counts.items() if f.lower() not in words.WRAPPERS}
    for folders in (rest, {f: n for f, n in rest.items() if f.lower() not in words.BESIDE}):
        if len(folders) == classes and classes > 1:
            index = {f: i for i, f in enumerate(sorted(folders))}
            stray = tuple(sorted(counts.keys() - folders.keys()))
            told = "in class folders, which count in the sorted order of their names"
            found.append(Reading(level, index, stray, "labels from the sorted order of the folder names", told))
            break
    return found


def _numbered(counts: Counter[str], form: re.Pattern[str], level: int, classes: int) -> Reading | None:
    """Folders as numbers of classes, where all but strays have one."""
    matches = {f: m for f in counts if (m := form.fullmatch(f.lower())) is not None and is_number(m[2])}
    if not matches:
        return None
    prefix = Counter(m[1].strip(" ._-") for m in matches.values()).most_common(1)[0][0]
    numbers = {f: int(unpadded(m[2])) for f, m in matches.items() if m[1].strip(" ._-") == prefix}
    stray = _stray(counts, numbers, classes)
    first = based(set(numbers.values()), classes)
    alone = len(set(numbers.values())) == len(numbers) > 1
    if stray is None or (form is not COUNTED and not alone) or (form is TRAILING and len(numbers) != classes):
        return None
    if max(numbers.values()) - first >= classes:
        return None
    low, high = min(numbers.values()), max(numbers.values())
    told = f"in class folders numbered {low} to {high}" if high > low else f"in the class folder {high}"
    less = ""
    if first:
        less = ", less 1"
        told += f", which count as classes {low - 1} to {high - 1} since there is no 0"
    index = {f: n - first for f, n in numbers.items()}
    return Reading(level, index, stray, f"labels from folder numbers{less}", told, parts=prefix in words.PARTS)


def _stray(counts: Counter[str], known: Iterable[str], classes: int) -> tuple[str, ...] | None:
    """The folders that are no class, where they may be left out; None where too much would be."""
    index = set(known)
    stray = [f for f in counts if f not in index]
    own = [f for f in stray if f.lower() not in words.WRAPPERS | words.BESIDE]
    if any(is_number(f) for f in stray):
        return None  # classes that are numbered otherwise
    few = sum(counts[f] for f in own) <= STRAY * counts.total()
    return tuple(sorted(stray)) if index and (few or len(index) >= classes) else None


def _apply(files: list[Path], reading: Reading) -> Labels:
    level = reading.level
    of, loose, stray = {}, [], []
    for p in files:
        if len(p.parts) <= level + 1:
            loose.append(p)
        elif p.parts[level] in reading.index:
            of[p] = reading.index[p.parts[level]]
        else:
            stray.append(p)
    left_out = []
    if loose:
        left_out.append(f"{counted(len(loose), 'image')} beside the class folders left out{some([str(p) for p in loose])}")
    if stray:
        names = sorted({p.parts[level] for p in stray})
        left_out.append(f"{counted(len(stray), 'image')} left out in folders that are no class{some(names)}")
    return Labels(of, list(of), reading.by, reading.told + _below(of, level), tuple(left_out))


def _below(files: Iterable[Path], level: int) -> str:
    """In which parts of a data set the class folders are."""
    places = sorted({Path(*p.parts[:level]).as_posix() for p in files}) if level else []
    if not places:
        return ""
    if len(places) > SHOWN:
        return f", in {len(places)} folders"
    *first, last = (printable(p) for p in places)
    return f", in {', '.join(first)} and {last} together" if first else f", in {last}"


def _no_classes(folder: Path, files: list[Path], depth: int, classes: int, names: tuple[Names, ...]) -> str:
    """Why no level of folders can be classes; what is said is of the level that looks most like them."""
    level = max(range(depth), key=lambda k: (not _folders(files, k) <= words.WRAPPERS, len(_counts(files, k)) > 1, -k))
    folders = sorted(_counts(files, level))
    strict = next((n for n in names if n.strict), None)
    if strict is not None:
        unknown = next((f for f in folders if strict.of(f) is None), folders[0])
        what = f"the folder {printable(unknown)!r} is not in it"
        return f"{strict.by}: {what}; expected one class name per line, in the model's order"
    numbers = {f: int(f) for f in folders if is_number(f)}
    beyond = [f for f, n in numbers.items() if n >= classes]
    if beyond and len(numbers) > len(folders) / 2:
        ones = all(1 <= n <= classes for n in numbers.values())
        example = f": for numbers from 1 {from_one(classes)}" if ones else ", one a line"
        way = f"give --classes FILE, names in the model's order{example}"
        which = f"has classes 0 to {classes - 1}; where they are numbered otherwise, {way}"
        return f"{folder}: the folder {beyond[0]!r} is no class of this model, which {which}"
    what = f"{counted(len(folders), 'class folder')} for a model of {classes} classes{some(folders)}"
    return f"{folder}: {what}; number the folders or give --classes FILE, class names one a line in the model's order"
