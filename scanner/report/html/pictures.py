"""Samples under the changes that the searches found: which change is shown first, and what is said of each picture."""

from dataclasses import dataclass

from banscan.scanner.evidence import Change, Evidence, Sample, Seen
from banscan.scanner.findings import Report
from banscan.scanner.logic import CRITERION
from banscan.scanner.report.pieces import named

# whose search made the change that shows what a criterion found
MADE_BY = {"patch share": "patch", "clearness": "perturbation", "margin": "perturbation", "noise map": "pixel map"}
# classes of a search beside the first, and pictures of each
FEW = 3
# how a change is called
KINDS = {
    "perturbation": "one perturbation of all pixels",
    "patch": "one small patch",
    "pixel map": "one perturbation along a map of classes",
    "noise": "noise on the neurons, images as they are",
}


@dataclass(frozen=True)
class Pair:
    """A sample before and after; `moved` where it gets another class, `meant` where that is the one aimed at, or its own along a map."""

    sample: Sample
    seen: Seen
    was: str
    now: str
    moved: bool
    meant: bool
    before_text: str
    after_text: str


@dataclass(frozen=True)
class Shown:
    """A change with its pictures; `called` where the verdict names its class, `single` where it is the only one of its search."""

    change: Change
    kind: str
    target: str | None
    called: bool
    single: bool
    pairs: tuple[Pair, ...]
    text: str


def leading(report: Report) -> Change | None:
    """The change that shows best what the verdict is about; None where none is about it."""
    changes = () if report.evidence is None else report.evidence.changes
    wanted = MADE_BY.get(report.verdict.criterion or "", report.verdict.criterion)
    # of several targets a structure's is the first, the others are the network's
    targets = report.verdict.targets[: 1 if wanted == CRITERION else None]

    def rank(change: Change) -> tuple[bool, bool, bool]:
        about = change.target in targets or (change.target is None and bool(report.verdict.mapping))
        return not about, change.criterion != wanted, change.png is None

    best = min(changes, key=rank, default=None)
    if best is None or report.verdict.outcome not in ("backdoored", "suspicious"):
        return best
    return None if rank(best)[0] else best


def shown_change(report: Report, change: Change, most: int | None = None, *, single: bool = False) -> Shown:
    """A change with words for its pictures, at most so many of them."""
    evidence = report.evidence
    assert evidence is not None
    target = None if change.target is None else named(report, change.target)
    kind = KINDS.get(change.criterion, change.criterion)
    aimed = "" if target is None else f" aimed at class {target}"
    verdict = report.verdict
    meant = change.target in verdict.targets or (change.target is None and bool(verdict.mapping))
    called = verdict.outcome in ("backdoored", "suspicious") and meant
    along = dict(next((f.mapping for f in report.findings if f.criterion == change.criterion), ()))
    return Shown(
        change=change,
        kind=kind,
        target=target,
        called=called,
        single=single,
        pairs=tuple(_pair(report, evidence, change, along, seen, kind, aimed) for seen in change.seen[:most]),
        text=f"{kind}{aimed}, {f'{change.gain:.0f} times as strong as it is' if change.gain > 1.5 else 'as it is'}, around grey",
    )


def _pair(report: Report, evidence: Evidence, change: Change, along: dict[int, int], seen: Seen, kind: str, aimed: str) -> Pair:
    sample = evidence.samples[seen.sample]
    was, now = named(report, sample.was), named(report, seen.now)
    moved = sample.was != seen.now
    return Pair(
        sample=sample,
        seen=seen,
        was=was,
        now=now,
        moved=moved,
        meant=moved and seen.now == (along.get(sample.label) if change.target is None else change.target),
        before_text=f"clean image, class {was}",
        after_text=f"the same image under {kind}{aimed}, {f'class {now}' if moved else f'still class {now}'}",
    )
