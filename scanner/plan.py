"""What a scan would do with a model and its images: which criteria it could ask, and whether it could come to a verdict."""

from dataclasses import replace

from banscan.scanner import verdict
from banscan.scanner.criteria import class_maps, noise_map, registry
from banscan.scanner.criteria.base import Criterion, NotDone, too_few, without_pixels
from banscan.scanner.findings import ALL, NOT_SCANNED, PLANNED, Finding, Verdict
from banscan.scanner.levels import Levels
from banscan.scanner.subject import Subject

READY = "the model and the images were read and checked, nothing was searched for (--dry-run); a scan can go on"
# what is said beside it where copies may stand for clean models that nobody measured
COPIES = (
    ", and trains and scans copies of the model, which takes minutes, where nothing else decides: nobody measured clean models like it "
    "(--no-controls leaves them out)"
)


def findings(subject: Subject, levels: Levels) -> tuple[Finding, ...]:
    """A finding of each criterion with the reason why it would not be asked; of those that would be, that this is a dry run."""
    return tuple(c.finding(levels, not_done=why.why if (why := why_not(c, subject)) else PLANNED) for c in registry.CRITERIA)


def why_not(criterion: Criterion, subject: Subject) -> NotDone | None:
    """Why a criterion cannot be asked, as far as that is known before anything is searched for."""
    maps = (class_maps.missing(subject) or (noise_map.chosen(subject) if not criterion.pixels else None)) if criterion.sees == ALL else None
    few = too_few(subject) if criterion.compares else None
    return few or maps or (without_pixels(subject) if criterion.pixels else None)


def verdict_of(planned: tuple[Finding, ...], levels: Levels, *, copies: bool = False) -> Verdict:
    """What can be said before the search: that a scan could go on, or why it would come to no verdict.

    Args:
        copies: whether copies of the model will stand for clean models that nobody measured.
    """
    asked = [f for f in planned if f.not_done == PLANNED]
    gaps = verdict.missing([replace(f, not_done=None) if f in asked else f for f in planned])
    if all(f.own_null for f in asked):
        return replace(verdict.inconclusive(str(planned[0].not_done)), gaps=gaps)
    tests = {c.name for c in registry.CRITERIA if c.compares}
    if levels.uncovered is not None and not copies and any(f.criterion in tests for f in asked):
        return verdict.unmeasured(levels.uncovered)
    return Verdict(
        outcome=NOT_SCANNED,
        reason=READY + (COPIES if copies else ""),
        next_step=verdict.STEPS[NOT_SCANNED],
        gaps=gaps,
    )
