"""Preprocessings that the images leave open: a scan under each, and one report on all."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from banscan.scanner import verdict
from banscan.scanner.findings import Report, Rival
from banscan.scanner.machine.forecast import Forecast
from banscan.scanner.machine.progress import Progress


@contextmanager
def turn(progress: Progress, what: str, *, last: bool) -> Iterator[Progress]:
    """Progress of one of the scans, which says so; the time left is known of the last one alone."""

    def named(show: Progress) -> Progress:
        return lambda stage, done, total: show(f"{what}: {stage}", done, total)

    if not last or not isinstance(progress, Forecast):
        yield named(progress)
        return
    show = progress.show
    progress.show = named(show)
    try:
        yield progress
    finally:
        progress.show = show


def together(undecided: Report, reports: Mapping[str, Report]) -> Report:
    """The report on a model whichever of them is right.

    Args:
        undecided: what was known when they were left.
        reports: of a scan under each, by its name.
    """
    tried = undecided.preprocess
    assert tried is not None
    shown, decided = verdict.whichever({name: report.verdict for name, report in reports.items()}, tried.reason)
    own = reports[shown]
    # what a score says of a model holds for a verdict that it led to
    standing = None if own.standing is None or decided.outcome != own.verdict.outcome else own.standing
    seconds, memory = Counter(undecided.seconds), dict(undecided.memory)
    for report in reports.values():
        seconds.update(report.seconds)
        memory |= {name: max(most, memory.get(name, 0)) for name, most in report.memory.items()}
    return replace(
        own,
        verdict=decided,
        preprocess=tried,
        rivals=tuple(_rival(name, report, shown=name == shown) for name, report in reports.items()),
        standing=standing,
        seconds=dict(seconds),
        memory=memory,
    )


def unasked(undecided: Report) -> Report:
    """The report on one that could not change the verdict."""
    return replace(undecided, verdict=verdict.unasked(), seconds={}, memory={})


def _rival(name: str, report: Report, *, shown: bool) -> Rival:
    found = report.verdict
    return Rival(
        preprocess=name,
        outcome=found.outcome,
        reason=found.reason,
        targets=found.targets,
        mapping=found.mapping,
        criterion=found.criterion,
        score=found.score,
        seconds=sum(report.seconds.values()),
        shown=shown,
    )
