"""Text that comes from files, made harmless before anybody reads it: the one place for terminals, logs and errors.

A class name, a node's name, an error of another library or a file name may hold what a terminal obeys: colours, titles, erased lines,
marks that turn the writing around, characters that take no room. Reports keep what they read as it is; whoever shows it to a person calls
`plain`.
"""

import codecs
import dataclasses
import unicodedata
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
# characters: what a sentence may hold, and a name within one
LONGEST, NAME = 2000, 60
# marks on one letter; more of them run over the lines above and below
MARKS = 2
# printable to Unicode, but nothing to see: joiners, fillers, selectors of a variant
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffc") | {
    chr(c) for c in (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}
# what reports are drawn and written with, for terminals that have ASCII or little more
ASCII = str.maketrans(
    dict.fromkeys("█▉▊▋▌", "#")
    | dict.fromkeys("▍▎▏", " ")
    | dict.fromkeys("─━═╸╺", "-")
    | dict.fromkeys("│┃", "|")
    | dict.fromkeys("╭╮╰╯┏┓┗┛┌┐└┘├┤┬┴┼", "+")
    | {"×": "x", "–": "-", "—": "-", "…": "...", "→": "->", "≤": "<=", "≥": ">=", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"'}
)


def plain(text: str, most: int = LONGEST) -> str:
    """The text in one line of visible characters, others as Python writes them (\\x1b, \\u202e); a longer one is cut in the middle."""
    cut = len(text) > 2 * most
    units = _units(text[:most]) + _units(text[-most:]) if cut else _units(text)
    if not cut and sum(map(len, units)) <= most:
        return "".join(units)
    first, last = _fitting(units, (most - 1) // 2), _fitting(units[::-1], (most - 1) // 2)
    return f"{''.join(first)}…{''.join(last[::-1])}"


def counted(count: int, what: str, many: str | None = None) -> str:
    """A number of things."""
    return f"{count} {what if count == 1 else many or what + 's'}"


def shown(value: T) -> T:
    """A value with all its texts and paths made `plain`: dataclasses, tuples, lists and dictionaries through and through."""
    made: object = value
    if isinstance(value, str):
        made = plain(value)
    elif isinstance(value, Path):
        made = Path(plain(str(value)))
    elif isinstance(value, tuple | list):
        made = type(value)(map(shown, value))
    elif isinstance(value, dict):
        made = {shown(key): shown(inner) for key, inner in value.items()}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        made = dataclasses.replace(value, **{name: shown(inner) for name, inner in fields.items()})
    return made  # type: ignore[return-value]


def _units(text: str) -> list[str]:
    """The characters as they are shown."""
    units, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        visible = character.isprintable() and character not in INVISIBLE and marks <= MARKS
        units.append(character if visible else character.encode("unicode_escape").decode("ascii"))
    return units


def _fitting(units: list[str], room: int) -> list[str]:
    """As many from the start as there is room for."""
    kept = []
    for unit in units:
        room -= len(unit)
        if room < 0:
            break
        kept.append(unit)
    return kept


def replaced(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a stream's encoding does not have; the error handler that `ENCODED` names."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end].translate(ASCII)
    return characters.encode("ascii", "backslashreplace").decode("ascii"), error.end


ENCODED = "banscan"
codecs.register_error(ENCODED, replaced)
