"""Names of classes in the model's order, from a file of the user or from the model's own."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from banscan.errors import UsageError
from banscan.scanner.inputs import text
from banscan.text import counted

# "3 stop", "3: stop", "3,stop" as label files of some tools have it
NUMBERED = re.compile(r"(\d+)\s*[\s:,;.)=\t-]\s*(\S.*)")
# of a number that can be a class
DIGITS = 9


@dataclass(frozen=True)
class Names:
    """Classes by name.

    Attributes:
        given: the names, in the model's order.
        by: what they come from, for sentences: "names.txt" or "the model file".
        index: class by every form of its name that no other class has.
        strict: whether the user gave them, so that no other reading is tried.
    """

    given: tuple[str, ...]
    by: str
    index: dict[str, int]
    strict: bool

    def of(self, name: str) -> int | None:
        """The class that is called so."""
        found = self.index.get(name)
        return self.index.get(plain(name)) if found is None else found


def of_file(path: Path, classes: int) -> Names:
    """The names in a file, one a line.

    Raises:
        UsageError: there is no such file, or it has not one name for each class.
    """
    lines = [line.strip() for line in text.read(path).splitlines() if line.strip()]
    names = tuple(_unnumbered(lines))
    if len(names) != classes or len(set(names)) != classes:
        what = f"{counted(len(set(names)), 'name')} for {classes} classes"
        raise UsageError(f"{path}: {what}; expected one class name per line, in the model's order")
    return Names(names, path.name, _index(names), strict=True)


def of_model(known: tuple[str, ...] | None) -> Names | None:
    """The names that the model file gives, where it gives any."""
    return None if known is None else Names(known, "the model file", _index(known), strict=False)


def plain(name: str) -> str:
    """A name without what people and programs change: case, spaces, how accents are put together, leading zeros of a number."""
    folded = re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()
    return unpadded(folded) if is_number(folded) else folded


def is_number(name: str) -> bool:
    """Whether a name is a number that can be a class."""
    return name.isascii() and name.isdigit() and len(unpadded(name)) <= DIGITS


def unpadded(digits: str) -> str:
    """A number without leading zeros."""
    return digits.lstrip("0") or "0"


def _unnumbered(lines: list[str]) -> list[str]:
    """Without the numbers in front, where every line has the next one."""
    found = [NUMBERED.fullmatch(line) for line in lines]
    if all(match is not None and unpadded(match[1]) == str(i) for i, match in enumerate(found)):
        return [match[2] for match in found if match is not None]
    return lines


def _index(names: tuple[str, ...]) -> dict[str, int]:
    """Every name as it is, then in the forms that are its own alone: plain, its first word ("n01440764 tench"), the rest, up to a comma."""
    index = {name: i for i, name in enumerate(names)}
    for form in (lambda name: [name], _parts):
        forms = [{plain(part) for part in form(name)} - {""} for name in names]
        seen = Counter(part for own in forms for part in own)
        for i, own in enumerate(forms):
            index |= {part: i for part in own if seen[part] == 1 and part not in index}
    return index


def _parts(name: str) -> Iterable[str]:
    first, _, rest = name.partition(" ")
    return first, rest, name.partition(",")[0], rest.partition(",")[0]
