"""Which column of a table names the files, and which the classes."""

import csv
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from banscan.errors import UsageError
from banscan.scanner.inputs import text, words
from banscan.scanner.inputs.lookup import Lookup
from banscan.scanner.inputs.names import plain

DELIMITERS = (",", ";", "\t", "|", " ")
# rows that tell how a table is made
LOOKED_AT = 200
# a first line that Excel reads and does not show
SEPARATOR = "sep="
# what an error shows of a row
SHOWN = 80


@dataclass(frozen=True)
class Columns:
    """How a table is read.

    Attributes:
        rows: the rows below the heading, each with its line in the file.
        file, label: columns; `hot`, those of a class each where a 1 marks the class, in place of `label`.
        names: of the two columns, where there is a heading.
    """

    rows: list[tuple[int, list[str]]]
    file: int
    label: int | None
    hot: tuple[int, ...]
    names: tuple[str, ...]


def columns_of(path: Path, lookup: Lookup, classes: int) -> Columns:
    """The reading of the table under which most of its first rows name files."""
    lines = text.read(path).splitlines()
    best: tuple[int, int, int, list[list[str]]] | None = None
    for delimiter in DELIMITERS:
        first = _parsed(path, lines[:LOOKED_AT], delimiter)
        width = max((len(cells) for _, cells in first), default=0)
        table = [cells for _, cells in first if len(cells) == width]
        if width < 2 or len(table) < len(first) / 2:
            continue
        hits, column = max(((_hits(table, c, lookup), -c) for c in range(width)), default=(0, 0))
        if hits and (best is None or hits > best[0]):
            best = hits, DELIMITERS.index(delimiter), -column, table
    if best is None:
        example = next(iter(lookup.forms[1]))
        raise UsageError(f"{path}: names none of the images; expected rows of file,label for files like {example}")
    _, place, column, table = best
    rows = [(n, cells) for n, cells in _parsed(path, lines, DELIMITERS[place]) if any(cell.strip() for cell in cells)]
    return _labels_in(path, rows, len(table[0]), column, lookup, classes)


def _hits(table: list[list[str]], column: int, lookup: Lookup) -> int:
    """How many files the cells of a column name; names in full count most, for sizes and classes are numbers as well."""
    in_full = {found[0] for cells in table if (found := lookup.of(cells[column], by_name=True))}
    if in_full:
        return 3 * len(in_full)
    others = {found[0] for cells in table if (found := lookup.of(cells[column]))}
    return len(others) if len(others) > len(table) / 2 else 0


def _parsed(path: Path, lines: list[str], delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows = []
    try:
        for cells in reader:
            if cells and not cells[0].startswith(("#", SEPARATOR)):
                # some programs end every line with a delimiter
                rows.append((reader.line_num, cells[:-1] if len(cells) > 2 and not cells[-1].strip() else cells))
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num} is no row of a table ({error}); expected file,label") from None
    return rows


def _labels_in(path: Path, rows: list[tuple[int, list[str]]], width: int, column: int, lookup: Lookup, classes: int) -> Columns:
    """Which column holds the labels: by its heading, else the only other one, else those where a 1 marks the class."""
    line, first = rows[0]
    heading = [_word(cell) for cell in first]
    has_heading = (
        len(first) == width and lookup.of(first[column]) is None and (heading[column] in words.FILES or not _is_label(first, column))
    )
    body = rows[1:] if has_heading else rows
    others = [c for c in range(width) if c != column]
    if has_heading:
        file = next(
            (c for c in map(heading.index, (n for n in words.FILES if n in heading)) if _names_files(body, c, column, lookup)), column
        )
        others = [c for c in range(width) if c != file]
        label = next((heading.index(n) for n in words.CLASSES if n in heading and heading.index(n) != file), None)
        if label is not None or len(others) == 1:
            label = others[0] if label is None else label
            return Columns(body, file, label, (), (first[file].strip(), first[label].strip()))
        column = file
    if len(others) == 1:
        return Columns(body, column, others[0], (), ())
    hot = tuple(c for c in others if all(len(cells) <= c or cells[c].strip() in ("0", "1", "0.0", "1.0") for _, cells in body[:LOOKED_AT]))
    if len(hot) == classes:
        return Columns(body, column, None, hot, (first[column].strip(), f"{len(hot)} for classes") if has_heading else ())
    what = f"a heading that calls one of its {width} columns label or class" if not has_heading else "a column called label or class"
    raise UsageError(f"{path}: cannot tell which column holds the labels (line {line}: {', '.join(first)[:SHOWN]}); expected {what}")


def _names_files(body: list[tuple[int, list[str]]], column: int, chosen: int, lookup: Lookup) -> bool:
    """Whether a column whose heading says so names files as well as the one with most of them."""
    table = [cells for _, cells in body[:LOOKED_AT] if len(cells) > max(column, chosen)]
    return 2 * _hits(table, column, lookup) >= _hits(table, chosen, lookup)


def _word(cell: str) -> str:
    return plain(cell).replace(" ", "_")


def _is_label(first: list[str], column: int) -> bool:
    """Whether another cell of the first row is a number, so that the row is no heading."""
    return any(whole(cell) is not None for c, cell in enumerate(first) if c != column)


def whole(cell: str) -> int | None:
    """A whole number, also one that a program wrote as 3.0 or 3,0."""
    number = finite(cell)
    return int(number) if number is not None and number == int(number) else None


def finite(cell: str) -> float | None:
    """A finite number."""
    try:
        number = float(cell.strip().replace(",", "."))
    except ValueError:
        return None
    return number if isfinite(number) and "_" not in cell else None
