"""A table of models, each with images, labels and preprocessing of its own: CSV, or a list in YAML."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from banscan.errors import UsageError
from banscan.files import check_folder
from banscan.scanner.fleet import models
from banscan.scanner.fleet.job import Job
from banscan.scanner.inputs import given, text
from banscan.scanner.places.place import elsewhere
from banscan.scanner.request import Request

COLUMNS = ("model", "images", "labels", "preprocess")
NAMES = f"{', '.join(COLUMNS)}; only model has to be there"
CSV, YAML = f"expected CSV with a heading of {NAMES}", f"expected a list in YAML whose entries have {NAMES}"
SUFFIXES = (".yaml", ".yml")
NULL = "tag:yaml.org,2002:null"


def jobs(path: Path, clean_dir: Path | None, request: Request) -> tuple[Job, ...]:
    """The models of a table; paths in it are relative to its folder, and what a row leaves out is that of the command line.

    Raises:
        UsageError: it is no such table, or names a file or folder that is not there, or a model twice.
    """
    rows, expected = (_yaml, YAML) if path.suffix.lower() in SUFFIXES else (_csv, CSV)
    made = [_job(path, line, cells, clean_dir, request) for line, cells in rows(path)]
    if not made:
        raise UsageError(f"{path}: no model in it; {expected}")
    models.listed([job.model for job in made])
    return tuple(made)


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the cells of each row."""
    rows = csv.DictReader(io.StringIO(text.read(path)), skipinitialspace=True, strict=True)
    try:
        _check([name.strip() for name in rows.fieldnames or ()], str(path), CSV)
        for row in rows:
            if None in row or None in row.values():
                raise UsageError(f"{path}, line {rows.line_num}: {'more' if None in row else 'fewer'} cells than the heading; {CSV}")
            yield rows.line_num, {name.strip(): value.strip() for name, value in row.items()}
    except csv.Error as error:
        raise UsageError(f"{path}, line {rows.line_num}: no CSV ({error}); {CSV}") from error


def _yaml(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the cells of each entry. Nodes are read, nothing is made of them: every value is the text that stands there."""
    if find_spec("yaml") is None:
        raise UsageError(f"{path}: a table in YAML needs a package more: pip install 'banscan[yaml]'; or write it as CSV")
    import yaml

    try:
        root: Any = yaml.compose(text.read(path), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        raise UsageError(f"{path}{where}: no YAML ({_why(error)}); {YAML}") from error
    if root is None:
        return
    if not isinstance(root, yaml.SequenceNode):
        raise UsageError(f"{path}: no list; {YAML}")
    for entry in root.value:
        line = entry.start_mark.line + 1
        if not isinstance(entry, yaml.MappingNode) or not all(isinstance(node, yaml.ScalarNode) for pair in entry.value for node in pair):
            raise UsageError(f"{path}, line {line}: expected names with a text each; {YAML}")
        _check([name.value for name, _ in entry.value], f"{path}, line {line}", YAML)
        yield line, {name.value: "" if node.tag == NULL else node.value.strip() for name, node in entry.value}


def _why(error: Exception) -> str:
    """What a parser says; a character that may not stand there has words of its own."""
    said = getattr(error, "problem", None) or getattr(error, "reason", None)
    return str(said) if said else "nested too deep"


def _check(names: Sequence[str], where: str, expected: str) -> None:
    """Raises UsageError for columns that are unknown, missing or there twice."""
    for name in names:
        if name not in COLUMNS:
            if ";" in name or "\t" in name:
                raise UsageError(f"{where}: unknown column {name!r}; columns are parted by commas; {expected}")
            near = get_close_matches(name, COLUMNS, 1)
            raise UsageError(f"{where}: unknown column {name!r}{f', did you mean {near[0]}?' if near else ''}; {expected}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{where}: column {twice} is there {names.count(twice)} times; {expected}")
    if "model" not in names:
        raise UsageError(f"{where}: no column model; {expected}")


def _job(path: Path, line: int, cells: dict[str, str], clean_dir: Path | None, request: Request) -> Job:
    def place(name: str) -> Path | None:
        return path.parent / cells[name] if cells.get(name) else None

    from banscan.scanner.inputs import preprocess  # torch comes with it

    named = cells.get("model", "")
    model, images, labels = Path(named) if elsewhere(named) else place("model"), place("images") or clean_dir, place("labels")
    try:
        if model is None:
            raise UsageError("no model")
        if images is None:
            raise UsageError("no images; fill the column images, or give --clean-dir")
        check_folder(images, given.IMAGES)
        given.check(model, (labels,))
        options = request.options if labels is None else replace(request.options, labels=labels)
        if cells.get("preprocess"):
            options = replace(options, preprocess=cells["preprocess"])
            preprocess.given(options)
    except UsageError as error:
        raise UsageError(f"{path}, line {line}: {error}") from error
    return Job(model, images, replace(request, options=options))
