"""Findings that somebody has looked at and accepts, each for one file with one hash: `banscan scan --baseline FILE`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from banscan.errors import UsageError
from banscan.files import check_file
from banscan.scanner.findings import Report

SCHEMA = "banscan-baseline/1"
EXPECTED = "expected a file that `banscan scan -o FILE.baseline.json` wrote"
# characters of a file that holds fingerprints
LARGEST = 1 << 26


def render(reports: Sequence[Report]) -> str:
    """A baseline that accepts everything that was found in these reports."""
    from banscan.scanner.report.results import INCONCLUSIVE, results

    accepted: list[dict[str, Any]] = []
    for report in reports:
        for result in (r for r in results(report) if r.rule != INCONCLUSIVE):
            about = {"file": report.model.name, "sha256": report.model.sha256, "finding": result.rule, "why": result.sentence}
            accepted.append({"fingerprint": result.fingerprint, **about})
    return json.dumps({"schema": SCHEMA, "accepted": accepted}, indent=1).replace("\x7f", "\\u007f") + "\n"


def load(path: Path) -> frozenset[str]:
    """The fingerprints that a baseline accepts.

    Raises:
        UsageError: it is no baseline.
    """
    check_file(path, EXPECTED)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError("another schema")
        found = [entry["fingerprint"] for entry in document["accepted"]]
        if not all(isinstance(f, str) for f in found):
            raise ValueError("no fingerprints")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: no baseline; {EXPECTED}") from error
    return frozenset(found)


def applied(report: Report, accepted: frozenset[str]) -> Report:
    """The report with what of it is accepted."""
    from banscan.scanner.report.results import results

    own = {each for r in results(report) for each in (r.fingerprint, r.graver)}
    return replace(report, accepted=tuple(sorted(own & accepted)))
