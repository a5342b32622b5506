"""The results of many scans: a file for each, called by the SHA-256 of its model and written whole."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from banscan.errors import ModelError
from banscan.files import PART, check, check_folder, unwritable, whole
from banscan.scanner.findings import Failure
from banscan.scanner.report.json import read, to_dict

if TYPE_CHECKING:
    from banscan.scanner.findings import Report

SCHEMA = "banscan-result/1"
# exit codes of failures
CODES = (2, 3, 4)


@dataclass(frozen=True)
class Stored:
    """What came of one scan: a report or a failure, and the file that holds it; None for what is not kept."""

    scanned: "Report | Failure"
    file: Path | None


def prepare(folder: Path) -> None:
    """Makes the folder where there is none.

    Raises:
        UsageError: it cannot be written to.
    """
    if folder.exists():
        check_folder(folder, "expected a folder for results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    check(folder / "result.json")


def place(folder: Path, digest: str) -> Path:
    """The file of a model."""
    return folder / f"{digest}.json"


def write(file: Path, scanned: "Report | Failure", digest: str, asked: dict[str, Any]) -> None:
    """Writes one; it is there whole or not at all."""
    document = {
        "schema": SCHEMA,
        "sha256": digest,
        "asked": asked,
        "report": None if isinstance(scanned, Failure) else to_dict(scanned),
        "error": scanned.sentence if isinstance(scanned, Failure) else None,
        "exit_code": scanned.code if isinstance(scanned, Failure) else None,
    }
    keep(file, json.dumps(document, indent=1, allow_nan=False).replace("\x7f", "\\u007f") + "\n")


def keep(file: Path, text: str) -> None:
    """Puts what `write` wrote elsewhere under this name; it is there whole or not at all."""
    with whole(file) as made:
        made.write_text(text, encoding="utf-8")


def found(file: Path, model: Path, digest: str, asked: dict[str, Any] | None = None, *, lasting: bool = False) -> Stored | None:
    """A result that is there: None where there is none, where something else was `asked`, or where `lasting` and its failure may pass.

    A file that is damaged or of another version counts as none.
    """
    if not file.is_file():  # a pipe would be waited for
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or document["sha256"] != digest:
            return None
        if asked is not None and document["asked"] != json.loads(json.dumps(asked)):
            return None
        if document["report"] is None:
            error, code = document["error"], document["exit_code"]
            if not isinstance(error, str) or type(code) is not int or code not in CODES:
                return None
            failure = Failure(model, digest, error, code)
            return None if lasting and failure.code != ModelError.exit_code else Stored(failure, file)
        report = read(json.dumps(document["report"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Stored(replace(report, model=replace(report.model, path=model)), file)


def tidy(file: Path) -> None:
    """Takes away what a killed process left of this result."""
    for left in file.parent.glob(f".{file.name[:PART]}.*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
