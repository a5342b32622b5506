"""Labels from a table: which column names the files, which the classes, and which file a row means."""

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from banscan.errors import UsageError
from banscan.scanner.inputs import text, words
from banscan.scanner.inputs.folder import counted, printable, some
from banscan.scanner.inputs.labels import Labels, based
from banscan.scanner.inputs.lookup import Lookup
from banscan.scanner.inputs.names import Names, plain

DELIMITERS = (",", ";", "\t", "|", " ")
# rows that tell how a table is made
LOOKED_AT = 200
# a first line that Excel reads and does not show
SEPARATOR = "sep="
# of the images, what may be left out for want of a row
MISSING = 0.5


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


@dataclass
class Row:
    """What the rows of one file say."""

    labels: set[str] = field(default_factory=set)
    near: int = -1
    line: int = 0


def labelled(folder: Path, files: list[Path], classes: int, path: Path, names: tuple[Names, ...]) -> Labels:
    """The labels that a table gives to files.

    Args:
        files: relative to the folder.
        names: of the classes, those of the user first.

    Raises:
        UsageError: it is no table, names no file of the folder, has no row for most of them, or labels that are no classes.
    """
    lookup = Lookup(folder, files)
    columns = _columns(path, lookup, classes)
    rows, unknown = _matched(columns, lookup)
    said = {p: next(iter(row.labels)) for p, row in rows.items() if len(row.labels) == 1}
    twice = [p for p, row in rows.items() if len(row.labels) > 1]
    without = [p for p, label in said.items() if label.casefold() in words.UNLABELLED]
    said = {p: label for p, label in said.items() if label.casefold() not in words.UNLABELLED}
    missing = [p for p in files if p not in rows]
    if len(twice) > MISSING * max(1, len(rows)):
        raise UsageError(
            f"{path}: rows with different labels for {counted(len(twice), 'image')}{some([str(p) for p in twice])}; expected one for each"
        )
    if len(missing) + len(without) > MISSING * len(files):
        first, *more = (str(p) for p in (*missing, *without))
        also = f" and {counted(len(more), 'more image')}" if more else ""
        raise UsageError(f"{path}: no label for {printable(first)}{also}; expected a row for every image")
    index, how = _classes(path, said, rows, classes, names)
    left_out = [
        f"{counted(len(paths), 'image')} {why}{some([str(p) for p in paths])}"
        for paths, why in (
            (missing, f"without a row in {path.name} left out"),
            (without, f"without a label in {path.name} left out"),
            (twice, f"with different labels in {path.name} left out"),
        )
        if paths
    ]
    if unknown:
        left_out.append(f"{counted(unknown, 'row')} of {path.name} for other files")
    of = {p: index[said[p]] for p in files if p in said}
    told = f", labels from {path.name}" + (f" (columns {' and '.join(columns.names)})" if columns.names else "") + how
    return Labels(of, list(of), f"labels from {path.name}{how}", told, tuple(left_out))


def _columns(path: Path, lookup: Lookup, classes: int) -> Columns:
    """The reading of the table under which most of its first rows name files."""
    content = text.read(path)
    best: tuple[int, int, int, list[list[str]]] | None = None
    for delimiter in DELIMITERS:
        first = _parsed(path, content, delimiter, LOOKED_AT)
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
    rows = [(n, cells) for n, cells in _parsed(path, content, DELIMITERS[place]) if any(cell.strip() for cell in cells)]
    return _labels_in(path, rows, len(table[0]), column, lookup, classes)


def _hits(table: list[list[str]], column: int, lookup: Lookup) -> int:
    """How many files the cells of a column name; names in full count most, for sizes and classes are numbers as well."""
    in_full = {found[0] for cells in table if (found := lookup.of(cells[column], by_name=True))}
    if in_full:
        return 3 * len(in_full)
    others = {found[0] for cells in table if (found := lookup.of(cells[column]))}
    return len(others) if len(others) > len(table) / 2 else 0


def _parsed(path: Path, content: str, delimiter: str, most: int | None = None) -> list[tuple[int, list[str]]]:
    lines = content.splitlines()
    reader = csv.reader(lines if most is None else lines[:most], delimiter=delimiter, skipinitialspace=True)
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
    number, first = rows[0]
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
    raise UsageError(f"{path}: cannot tell which column holds the labels (line {number}: {', '.join(first)}); expected {what}")


def _names_files(body: list[tuple[int, list[str]]], column: int, chosen: int, lookup: Lookup) -> bool:
    """Whether a column whose heading says so names files as well as the one with most of them."""
    table = [cells for _, cells in body[:LOOKED_AT] if len(cells) > max(column, chosen)]
    return 2 * _hits(table, column, lookup) >= _hits(table, chosen, lookup)


def _word(cell: str) -> str:
    return plain(cell).replace(" ", "_")


def _is_label(first: list[str], column: int) -> bool:
    """Whether another cell of the first row is a number, so that the row is no heading."""
    return any(_number(cell) is not None for c, cell in enumerate(first) if c != column)


def _number(cell: str) -> int | None:
    """A whole number, also one that a program wrote as 3.0 or 3,0."""
    value = _value(cell)
    return int(value) if value is not None and value == int(value) else None


def _value(cell: str) -> float | None:
    """A finite number."""
    try:
        value = float(cell.strip().replace(",", "."))
    except ValueError:
        return None
    return value if isfinite(value) and "_" not in cell else None


def _matched(columns: Columns, lookup: Lookup) -> tuple[dict[Path, Row], int]:
    """What the rows say of each file, and how many rows are for others. Of several rows, those with the most of its path count."""
    rows: dict[Path, Row] = defaultdict(Row)
    unknown = 0
    for line, cells in columns.rows:
        found = lookup.of(cells[columns.file]) if len(cells) > columns.file else None
        if found is None:
            unknown += 1
            continue
        row, near = rows[found[0]], found[1]
        if near > row.near:
            row.labels, row.near, row.line = set(), near, line
        if near == row.near:
            row.labels.add(_label(cells, columns))
    return dict(rows), unknown


def _label(cells: list[str], columns: Columns) -> str:
    if columns.label is None:
        ones = [i for i, c in enumerate(columns.hot) if len(cells) > c and _number(cells[c]) == 1]
        return str(ones[0]) if len(ones) == 1 else ""
    cell = cells[columns.label].strip() if len(cells) > columns.label else ""
    number = _number(cell)
    return cell if number is None else str(number)


def _classes(
    path: Path, said: dict[Path, str], rows: dict[Path, Row], classes: int, names: tuple[Names, ...]
) -> tuple[dict[str, int], str]:
    """The class that each label means, and how that was told."""
    labels = {label: rows[p].line for p, label in reversed(said.items())}
    for given in names:
        index = {label: given.of(label) for label in labels}
        if all(c is not None for c in index.values()):
            return {label: c for label, c in index.items() if c is not None}, f", names by {given.by}"
    numbers = {label: _number(label) for label in labels}
    if all(_value(label) is None for label in labels) and len(labels) == classes:
        return {label: i for i, label in enumerate(sorted(labels))}, ", names in sorted order"
    first = based({n for n in numbers.values() if n is not None}, classes)
    for label, line in sorted(labels.items(), key=lambda pair: pair[1]):
        n = numbers[label]
        if n is None or not 0 <= n - first < classes:
            what = f"a label from 0 to {classes - 1}, or --classes FILE with the names in the model's order"
            raise UsageError(f"{path}: line {line} has the label {label!r}; expected {what}")
    how = f", less 1 since they are numbered 1 to {classes}" if first else ""
    return {label: n - first for label, n in numbers.items() if n is not None}, how
