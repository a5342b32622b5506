"""The preprocessings that the images leave open, as a table for every report that people read."""

from collections.abc import Iterator

from banscan.scanner.findings import Report

TITLE = "Under each preprocessing that the images leave open"
COLUMNS = ("preprocessing", "verdict", "class", "score", "")


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """A row of each: its name, what a scan under it says, the target classes, the score, and whether the rest is of this scan."""
    for rival in report.rivals:
        yield (
            rival.preprocess,
            rival.outcome,
            ", ".join(map(str, rival.targets)) or "–",
            "–" if rival.score is None else f"{rival.score:.2f}",
            "shown here" if rival.shown else "",
        )
