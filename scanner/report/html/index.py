"""Many scans on one page: how many there are of each outcome, and a row for every model, the gravest first."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from banscan.scanner.findings import Failure, Report
from banscan.scanner.report.html.page import MARKS, TONES
from banscan.scanner.report.html.template import rendered
from banscan.scanner.report.pieces import named, sentence
from banscan.scanner.report.results import settled
from banscan.scanner.report.summary import FAILED, counts, ranked
from banscan.text import shown
from banscan.version import __version__

# characters of a hash that tells a page apart, and of the index's own name before it
KNOWN_BY, STEM = 16, 60
# targets that a row names
TARGETS = 4


@dataclass(frozen=True)
class Row:
    """What is said of one model; `page` is the address of its own."""

    model: str
    outcome: str
    tone: str
    mark: str
    targets: str
    score: str
    reason: str
    seconds: str
    page: str | None


# what tells reports apart: the path of the model, and its SHA-256
Known = tuple[str, str]


def pages(reports: Sequence[Report], stem: str) -> dict[Known, str]:
    """The name of each report's page beside an index of this stem; stored reports may hold anything, and two be of the same file."""
    links: dict[Known, str] = {}
    for report in reports:
        path, digest = known(report)
        if re.fullmatch("[0-9a-f]{64}", digest):
            own = hashlib.sha256(f"{digest} {path}".encode("utf-8", "surrogateescape")).hexdigest()
            links[path, digest] = f"{stem[:STEM]}-{own[:KNOWN_BY]}.html"
    return links


def known(report: Report) -> Known:
    """By what the page of a report is told apart."""
    return str(report.model.path), report.model.sha256


def to_index(reports: Sequence[Report], failures: Sequence[Failure], links: Mapping[Known, str]) -> str:
    """The page; names from files are shown as `text.plain` has them, and escaped. It loads nothing and runs nothing.

    Args:
        links: the names of files beside it, by the reports that they show; see `known`.
    """
    rows = [_row(scanned, links) for _, scanned in ranked(reports, failures)]
    return rendered("index.html", rows=rows, counts=counts(reports, failures), version=__version__, linked=bool(links))


def _row(scanned: Report | Failure, links: Mapping[Known, str]) -> Row:
    if isinstance(scanned, Failure):
        words = sentence(shown(scanned.sentence.removeprefix(f"{scanned.path}: ")))
        return Row(str(shown(scanned.path)), FAILED, "doubt", "✕", "–", "–", words, "–", None)
    verdict = scanned.verdict
    classes = [named(scanned, target) for target in verdict.targets]
    names = ", ".join(classes[:TARGETS]) + (", …" if len(classes) > TARGETS else "")
    accepted = " Accepted by the baseline." if settled(scanned) else ""
    link = links.get(known(scanned))
    return Row(
        model=str(shown(scanned.model.path)),
        outcome=verdict.outcome,
        tone=TONES[verdict.outcome],
        mark=MARKS[verdict.outcome],
        targets=names or ("all" if verdict.mapping else "–"),
        score="–" if verdict.score is None else f"{verdict.score:.2f}",
        reason=f"{sentence(shown(verdict.reason))}{accepted}",
        seconds=f"{sum(scanned.seconds.values()):.0f}" if scanned.seconds else "–",
        page=None if link is None else quote(os.fsencode(link)),
    )
