"""Copies of the model that were scanned beside it, as a table for every report that people read."""

from collections.abc import Iterator

from banscan.scanner.findings import LOST, WORKS, Copy, Report, from_scratch

TITLE = "Copies of the model, by a first look"
IDLE = "clean models like it were measured, so the verdict does not rest on them"
COLUMNS = ("copy", "class", "ASR", "accuracy", "verdict", "")


def idle(report: Report) -> bool:
    """Whether clean models like this one were measured, which its verdict rests on."""
    return report.standing is not None and report.standing.uncovered is None


def title(report: Report) -> str:
    """What the table is, and what the verdict has to do with it."""
    return f"{TITLE}; {IDLE}" if idle(report) else TITLE


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """A row of each: what it is, its class, how well its trigger works, accuracy before and after, what a scan of it says."""
    for copy in report.controls.copies if report.controls is not None else ():
        yield (
            copy.trigger or _without(copy),
            "–" if copy.target is None else str(copy.target),
            "–" if copy.asr is None else f"{copy.asr:.0%}",
            "–" if copy.accuracy is None else " → ".join(f"{share:.0%}" for share in copy.accuracy),
            _verdict(copy),
            _judged(copy),
        )


def _without(copy: Copy) -> str:
    """How one without a backdoor was made."""
    if from_scratch(copy.made):
        return "from scratch"
    return "tuned" if copy.target is None else "tuned against"


def _verdict(copy: Copy) -> str:
    """What the scan says of a copy."""
    if copy.outcome is None:
        return f"none: {copy.not_done}"
    return ", ".join((copy.outcome, *map(str, copy.targets)))


def _judged(copy: Copy) -> str:
    """What that says of the scan."""
    if copy.outcome is None:
        return ""
    if not copy.knows:
        return f"does not count: accuracy fell by over {100 * LOST:.0f} points"
    if copy.trigger is None:
        return {"no backdoor found": "not called", "inconclusive": "says nothing"}.get(copy.outcome, "called as well")
    if not copy.planted:
        return f"does not count: ASR below {WORKS:.0%}"
    return "found" if copy.found else "missed"
