"""Many scans on one page: how many there are of each outcome, and a row for every model, the gravest first."""

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

# characters of a model's SHA-256 that tell its page apart
KNOWN_BY = 16
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


def pages(reports: Sequence[Report], stem: str) -> dict[str, str]:
    """The name of each model's page, by the SHA-256 of the model, beside an index of this stem; stored reports may hold anything."""
    known = (report.model.sha256 for report in reports if re.fullmatch("[0-9a-f]{64}", report.model.sha256))
    return {digest: f"{stem}-{digest[:KNOWN_BY]}.html" for digest in known}


def to_index(reports: Sequence[Report], failures: Sequence[Failure], links: Mapping[str, str]) -> str:
    """The page; names from files are shown as `text.plain` has them, and escaped. It loads nothing and runs nothing.

    Args:
        links: the names of files beside it, by the SHA-256 of the models that they are about.
    """
    rows = [_row(scanned, links) for _, scanned in ranked(reports, failures)]
    return rendered("index.html", rows=rows, counts=counts(reports, failures), version=__version__, linked=bool(links))


def _row(scanned: Report | Failure, links: Mapping[str, str]) -> Row:
    if isinstance(scanned, Failure):
        words = sentence(shown(scanned.sentence.removeprefix(f"{scanned.path}: ")))
        return Row(str(shown(scanned.path)), FAILED, "doubt", "✕", "–", "–", words, "–", None)
    verdict = scanned.verdict
    classes = [named(scanned, target) for target in verdict.targets]
    names = ", ".join(classes[:TARGETS]) + (", …" if len(classes) > TARGETS else "")
    known = " Accepted by the baseline." if settled(scanned) else ""
    link = links.get(scanned.model.sha256)
    return Row(
        model=str(shown(scanned.model.path)),
        outcome=verdict.outcome,
        tone=TONES[verdict.outcome],
        mark=MARKS[verdict.outcome],
        targets=names or ("all" if verdict.mapping else "–"),
        score="–" if verdict.score is None else f"{verdict.score:.2f}",
        reason=f"{sentence(shown(verdict.reason))}{known}",
        seconds=f"{sum(scanned.seconds.values()):.0f}" if scanned.seconds else "–",
        page=None if link is None else quote(link),
    )
