"""Findings for code scanning, as SARIF 2.1.0 (OASIS Standard, 27 March 2020)."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from banscan.scanner.findings import Failure, Report
from banscan.scanner.places.place import elsewhere
from banscan.scanner.report.json import plain as rounded
from banscan.scanner.report.pieces import headline, left_out, sentence
from banscan.scanner.report.results import Result, results
from banscan.scanner.report.rules import RULES, place
from banscan.text import plain
from banscan.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
# what the names of fingerprints end in; a new number says that old ones cannot be compared
PRINT = "banscan/v1"
# what is told beside results: level and words
NOTES = {"failed": ("error", "A model could not be scanned."), "not looked for": ("note", "A criterion could not be applied.")}
# characters that mean something in a message (3.11.5, 3.11.6)
MARKED = str.maketrans({"\\": "\\\\", "[": "\\[", "]": "\\]", "{": "{{", "}": "}}"})


def to_sarif(reports: Sequence[Report], failures: Sequence[Failure] = ()) -> dict[str, Any]:
    """One run with all results of these reports, the model files as its artifacts, and the scans that failed as notifications."""
    notes = [_note("failed", failure.sentence, failure.path) for failure in failures]
    notes += [_note("not looked for", line, report.model.name) for report in reports for line in left_out(report)]
    run: dict[str, Any] = {
        "tool": {"driver": _driver()},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": not failures, "toolExecutionNotifications": notes}],
        "artifacts": [_artifact(report) for report in reports],
        "results": [_result(report, i, result) for i, report in enumerate(reports) for result in results(report)],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _driver() -> dict[str, Any]:
    rules = [
        {
            "id": rule.name,
            "name": "".join(word.capitalize() for word in rule.name.split()),
            "shortDescription": {"text": rule.short},
            "fullDescription": {"text": rule.help},
            "help": {"text": rule.help},
            "defaultConfiguration": {"level": "warning"},
            "properties": {"tags": ["security", "machine-learning", "backdoor"]},
        }
        for rule in RULES
    ]
    return {
        "name": "banscan",
        "semanticVersion": __version__,
        "rules": rules,
        "notifications": [{"id": name, "shortDescription": {"text": told}} for name, (_, told) in NOTES.items()],
    }


def _note(name: str, words: str, path: str | Path) -> dict[str, Any]:
    level, _ = NOTES[name]
    return {"level": level, "message": _text(words), "locations": [_location(path)], "descriptor": {"id": name}}


def _artifact(report: Report) -> dict[str, Any]:
    model, verdict = report.model, report.verdict
    probability = None if report.standing is None else report.standing.probability
    about = {
        "outcome": verdict.outcome,
        "score": verdict.score,
        "probability": probability,
        "format": model.format,
        "classes": model.classes,
    }
    return {
        "location": _uri(model.name),
        "hashes": {"sha-256": model.sha256},
        "roles": ["analysisTarget"],
        "description": _text(headline(report)),
        "properties": rounded(about),
    }


def _result(report: Report, index: int, result: Result) -> dict[str, Any]:
    where = _location(report.model.name, index)
    if result.place is not None:
        where["logicalLocations"] = [{"name": plain(result.place)}]
    made: dict[str, Any] = {
        "ruleId": result.rule,
        "ruleIndex": place(result.rule),
        "level": result.level,
        "message": _text(sentence(result.sentence)),
        "locations": [where],
        "fingerprints": {PRINT: result.fingerprint},
        "partialFingerprints": {PRINT: result.fingerprint},
    }
    if result.accepted:
        made["suppressions"] = [{"kind": "external", "status": "accepted", "justification": "accepted by the baseline"}]
    return made


def _location(path: str | Path, index: int | None = None) -> dict[str, Any]:
    where = _uri(path) if index is None else _uri(path) | {"index": index}
    return {"physicalLocation": {"artifactLocation": where}}


def _uri(name: str | Path) -> dict[str, str]:
    """A path as it was given: a relative one stays relative, so that findings name files of the repository; or a name elsewhere."""
    if elsewhere(name):
        return {"uri": quote(str(name), safe="/:@")}
    path = Path(name)
    try:
        quoted = quote(os.fsencode(path.as_posix()))
    except UnicodeEncodeError:  # a name that no file of this system can have
        quoted = quote(path.as_posix(), errors="backslashreplace")
    return {"uri": f"file://{quoted}" if path.is_absolute() else quoted}


def _text(words: str) -> dict[str, str]:
    return {"text": plain(words).translate(MARKED)}


def write(report: Report, stream: TextIO) -> None:
    """Writes one report."""
    write_many((report,), (), stream)


def write_many(reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
    """Writes several into one document."""
    stream.write(json.dumps(to_sarif(reports, failures), indent=1, allow_nan=False) + "\n")
