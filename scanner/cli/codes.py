"""Exit codes: what a verdict is to a pipeline."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from banscan.scanner.findings import Report

EXIT = {"no backdoor found": 0, "not scanned": 0, "backdoored": 1, "suspicious": 2, "fragile": 2, "inconclusive": 2}
# of several models the first of these counts
ORDER = (1, 2, 3, 4, 0)


def of(report: "Report", fail_on: str) -> int:
    """The exit code of one report; 0 where a baseline accepts everything that was found."""
    from banscan.scanner.report.results import settled

    outcome = report.verdict.outcome
    if EXIT[outcome] and settled(report):
        return 0
    return 1 if outcome == "suspicious" == fail_on else EXIT[outcome]


def joined(codes: Iterable[int]) -> int:
    """The exit code of several scans."""
    return min(codes, key=ORDER.index, default=0)
