"""A table of models, each with images, labels and preprocessing of its own."""

import csv
import io
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from banscan.errors import UsageError
from banscan.files import check_folder
from banscan.scanner.fleet import models
from banscan.scanner.fleet.job import Job
from banscan.scanner.inputs import given, text
from banscan.scanner.places.place import elsewhere
from banscan.scanner.request import Request

COLUMNS = ("model", "images", "labels", "preprocess")
EXPECTED = f"expected CSV with a heading of {', '.join(COLUMNS)}; only model has to be there"


def jobs(path: Path, clean_dir: Path | None, request: Request) -> tuple[Job, ...]:
    """The models of a table; paths in it are relative to its folder, and what a row leaves out is that of the command line.

    Raises:
        UsageError: it is no such table, or names a file or folder that is not there, or a model twice.
    """
    rows = csv.DictReader(io.StringIO(text.read(path)), skipinitialspace=True, strict=True)
    try:
        heading = [name.strip() for name in rows.fieldnames or ()]
        for name in heading:
            if name not in COLUMNS:
                near = get_close_matches(name, COLUMNS, 1)
                raise UsageError(f"{path}: unknown column {name!r}{f', did you mean {near[0]}?' if near else ''}; {EXPECTED}")
        twice = next((name for name in heading if heading.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"{path}: column {twice} is there {heading.count(twice)} times; {EXPECTED}")
        if "model" not in heading:
            raise UsageError(f"{path}: no column model; {EXPECTED}")
        made = []
        for row in rows:
            if None in row or None in row.values():
                raise UsageError(f"{path}, line {rows.line_num}: {'more' if None in row else 'fewer'} cells than the heading; {EXPECTED}")
            cells = {name.strip(): value.strip() for name, value in row.items()}
            made.append(_job(path, rows.line_num, cells, clean_dir, request))
    except csv.Error as error:
        raise UsageError(f"{path}, line {rows.line_num}: no CSV ({error}); {EXPECTED}") from error
    if not made:
        raise UsageError(f"{path}: no model in it; {EXPECTED}")
    models.listed([job.model for job in made])
    return tuple(made)


def _job(path: Path, line: int, cells: dict[str, str], clean_dir: Path | None, request: Request) -> Job:
    def place(name: str) -> Path | None:
        return path.parent / cells[name] if cells.get(name) else None

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
    except UsageError as error:
        raise UsageError(f"{path}, line {line}: {error}") from error
    return Job(model, images, replace(request, options=options))
