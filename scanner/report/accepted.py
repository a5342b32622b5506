"""A baseline of what was found, for those who have looked at it: `-o FILE.baseline.json`."""

from collections.abc import Sequence
from typing import TextIO

from banscan.scanner import baseline
from banscan.scanner.findings import Failure, Report


def write(report: Report, stream: TextIO) -> None:
    """Writes one that accepts everything that was found in a report."""
    stream.write(baseline.render((report,)))


def write_many(reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
    """Writes one that accepts everything that was found in several."""
    stream.write(baseline.render(reports))
