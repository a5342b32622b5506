"""Labels from a table: what its rows say of each file, and which class that is."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from banscan.errors import UsageError
from banscan.scanner.inputs import words
from banscan.scanner.inputs.columns import Columns, columns_of, finite, whole
from banscan.scanner.inputs.folder import printable, some
from banscan.scanner.inputs.labels import Labels, based
from banscan.scanner.inputs.lookup import Lookup
from banscan.scanner.inputs.names import Names
from banscan.text import counted

# of the images, what may be left out for want of a row
MISSING = 0.5


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
    columns = columns_of(path, lookup, classes)
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
        ones = [i for i, c in enumerate(columns.hot) if len(cells) > c and whole(cells[c]) == 1]
        return str(ones[0]) if len(ones) == 1 else ""
    cell = cells[columns.label].strip() if len(cells) > columns.label else ""
    number = whole(cell)
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
    numbers = {label: whole(label) for label in labels}
    if all(finite(label) is None for label in labels) and len(labels) == classes:
        return {label: i for i, label in enumerate(sorted(labels))}, ", names in sorted order"
    first = based({n for n in numbers.values() if n is not None}, classes)
    for label, line in sorted(labels.items(), key=lambda pair: pair[1]):
        n = numbers[label]
        if n is None or not 0 <= n - first < classes:
            what = f"a label from 0 to {classes - 1}, or --classes FILE with the names in the model's order"
            raise UsageError(f"{path}: line {line} has the label {label!r}; expected {what}")
    how = f", less 1 since they are numbered 1 to {classes}" if first else ""
    return {label: n - first for label, n in numbers.items() if n is not None}, how
