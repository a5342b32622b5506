"""Many scans at a glance: a line for each as it comes, a table of them at the end."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from banscan.scanner.findings import FRAGILE, NOT_SCANNED, Failure, Report
from banscan.scanner.report.pieces import STYLES, headline
from banscan.scanner.report.results import settled
from banscan.text import counted, plain

FAILED = "failed"
CALM = "no backdoor found"
# the gravest first; what failed before what is calm
ORDER = ("backdoored", "suspicious", FRAGILE, "inconclusive", FAILED, CALM, NOT_SCANNED)


def line(scanned: Report | Failure) -> str:
    """A scan in one line."""
    if isinstance(scanned, Failure):
        words = scanned.sentence.removeprefix(f"{scanned.path}: ")
        return plain(f"{scanned.path}: Failed: {words}")
    score = "" if scanned.verdict.score is None else f" (score {scanned.verdict.score:.2f})"
    known = "; accepted by the baseline" if settled(scanned) else ""
    # whoever reads one line shall know that there is more to ask
    known += "; not all was looked for" if scanned.verdict.outcome == CALM and scanned.verdict.gaps else ""
    more = f": {scanned.verdict.reason}" if scanned.verdict.outcome == "inconclusive" else ""
    return plain(f"{scanned.model.name}: {headline(scanned)}{score}{known}{more}")


def show(reports: Sequence[Report], failures: Sequence[Failure], on: Console) -> None:
    """Prints a table of all in which something was found or that gave no verdict, the gravest first, and how many there are of each."""
    told = [row for row in ranked(reports, failures) if row[0] != CALM]
    if told:
        on.print(_table(told))
    for failure in failures:
        on.print(Text(line(failure), style="yellow"))
    on.print(Text(counts(reports, failures)))


def ranked(reports: Sequence[Report], failures: Sequence[Failure]) -> list[tuple[str, Report | Failure]]:
    """All scans with their outcomes, the gravest first."""
    rows = [(report.verdict.outcome, report) for report in reports] + [(FAILED, failure) for failure in failures]
    return sorted(rows, key=lambda row: (ORDER.index(row[0]), -_score(row[1])))


def counts(reports: Sequence[Report], failures: Sequence[Failure]) -> str:
    """How many there are of each, in one line."""
    found = Counter(report.verdict.outcome for report in reports) + Counter({FAILED: len(failures)})
    words = ", ".join(f"{found[outcome]} {outcome}" for outcome in ORDER if found[outcome])
    known = sum(map(settled, reports))
    return f"{counted(len(reports) + len(failures), 'model')}: {words}{f'; {known} accepted by the baseline' if known else ''}"


def _table(rows: Sequence[tuple[str, Report | Failure]]) -> Table:
    table = Table(title="What needs a look", title_justify="left", box=None, pad_edge=False)
    table.add_column("verdict")
    table.add_column("class", justify="right", max_width=12)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("model", overflow="fold")
    for outcome, scanned in rows:
        style = STYLES.get(outcome, STYLES["inconclusive"])
        if isinstance(scanned, Failure):
            table.add_row(Text(outcome, style=style), "–", "–", Text(plain(str(scanned.path))))
            continue
        verdict = scanned.verdict
        classes = ", ".join(map(str, verdict.targets)) or ("all" if verdict.mapping else "–")
        score = "–" if verdict.score is None else f"{verdict.score:.2f}"
        table.add_row(Text(outcome, style=style), classes, score, Text(plain(scanned.model.name)))
    return table


def _score(scanned: Report | Failure) -> float:
    return 0.0 if isinstance(scanned, Failure) else scanned.verdict.score or 0.0
