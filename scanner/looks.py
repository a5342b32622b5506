"""First a look at everything, then whole searches of what is close: many models need no more than the look.

A look that calls a model backdoored, or that leaves nothing close, is the end. Otherwise the tests, or the one criterion whose limit is
close, search as much as they can, and what they find then takes the place of what the look saw. The looks share the level, so that the
false-positive rate of a scan is at most that of a single look; the first, which sees the least, has the smallest part (as in sequential
trials: Haybittle, 1971; Peto et al., 1976): what is only just enough for it is searched again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from banscan.scanner import ahead
from banscan.scanner.control import MEASURED_BY, measuring
from banscan.scanner.criteria import registry
from banscan.scanner.criteria.base import NotDone
from banscan.scanner.criteria.joint import JOINT
from banscan.scanner.criteria.share import near
from banscan.scanner.criteria.transform import TRANSFORM
from banscan.scanner.effort import FIRST_LOOK, GLANCE, WHOLE, Effort
from banscan.scanner.findings import Finding
from banscan.scanner.levels import Levels
from banscan.scanner.machine.progress import Progress
from banscan.scanner.subject import Subject

LOOKS: Mapping[str, tuple[Effort, ...]] = {"quick": (FIRST_LOOK,), "standard": (FIRST_LOOK, WHOLE), "thorough": (WHOLE,)}
# likewise where a pass through the network is dear: each effort is what a lesser one is for others
DEAR_LOOKS: Mapping[str, tuple[Effort, ...]] = {"quick": (GLANCE,), "standard": (GLANCE, FIRST_LOOK), "thorough": (WHOLE,)}
# what the level of two looks is divided by for each; together they take less than there is, since values of real networks have heavier
# tails than the tests assume
EARLY, LATE = 10, 2
# a p-value, paid for as all are, below which a test is close; less where a second look is dear
CLOSE_P, CLOSER_P = 1.0, 0.1
# what a second look is called where somebody watches
AGAIN = "searching again, whole"
SEARCHES = tuple(c.name for c in registry.CRITERIA if c.searches)
# those whose values are put together in the joint test
TESTS = frozenset(c.name for c in registry.CRITERIA if c.compares and c.searches)


def ladder(effort: str, costly: bool) -> tuple[Effort, ...]:
    """The looks that are taken one after the other with this effort of the settings, as far as they are needed."""
    return (DEAR_LOOKS if costly else LOOKS)[effort]


@dataclass
class Looked:
    """What was measured so far, by criterion, and with how much effort."""

    measured: dict[str, Any] = field(default_factory=dict)
    efforts: dict[str, Effort] = field(default_factory=dict)
    again: frozenset[str] = frozenset()

    @property
    def whole(self) -> tuple[str, ...]:
        """The criteria that searched as much as they may in a network of this size."""
        done = (n for n in SEARCHES if self.efforts.get(n) == WHOLE or n in self.again)
        return tuple(n for n in done if not isinstance(self.measured.get(n), NotDone))


def search(
    subject: Subject,
    levels: Levels,
    looked: Looked,
    progress: Progress,
    stage: Callable[[str], AbstractContextManager[None]],
    *,
    limits: bool,
) -> None:
    """Looks as often as it takes, and fills `looked`; `told` says what it means.

    Args:
        levels: what is close is judged by these.
        limits: whether the absolute limits hold for such a model without a control.

    Raises:
        EvidenceError: a criterion cannot come to numbers that can be trusted; what was measured before is in `looked`.
    """
    first, *further = ladder(subject.settings.effort, subject.costly)
    by_first = subject.searched_by(first)
    ahead.searches(progress, by_first)
    registry.measure(by_first, looked.measured, progress, stage)
    looked.efforts = dict.fromkeys(looked.measured, first)
    if first == WHOLE:
        return
    found = told(subject, levels, looked)
    again = unverified(found, limits)
    if further:
        enough = CLOSER_P if subject.costly else CLOSE_P
        later = told(subject, levels, replace(looked, again=frozenset(SEARCHES)))
        again |= close(found, later, tests=levels.uncovered is None, limits=limits, enough=enough)
    if again:
        # a second look that fails leaves the first
        measured = dict(looked.measured)
        second = FIRST_LOOK if subject.costly else WHOLE
        whole = subject.searched_by(second)
        ahead.searches(progress, whole, again, AGAIN)
        registry.measure(whole, measured, progress, stage, again)
        looked.measured |= measured
        looked.efforts |= dict.fromkeys(again, second)
        looked.again = again


def told(subject: Subject, levels: Levels, looked: Looked) -> tuple[Finding, ...]:
    """What the criteria make of what was measured so far."""
    effort = subject.settings.effort
    return registry.findings(looked.measured, subject.searched, subject.classes, levels, lambda name: paid(name, effort, looked.again))


def paid(criterion: str, effort: str, again: Collection[str]) -> int:
    """What the level is divided by for a criterion of a scan with this effort, in which these criteria searched `again`."""
    if len(LOOKS[effort]) == 1:
        return 1
    sources = TESTS if criterion == JOINT.name else {MEASURED_BY.get(criterion, criterion)} & frozenset(SEARCHES)
    return LATE if sources <= frozenset(again) else EARLY


def unverified(findings: Sequence[Finding], limits: bool) -> frozenset[str]:
    """The criteria whose limit is exceeded, and that have to search whole before it counts.

    What changes of the whole image do to the classes behind the first is seen by their whole search alone, and controls compare whole ones.
    """
    exceeding = [f for f in findings if f.exceeds and f.p_value is None and not f.own_null]
    return frozenset(measuring(f) for f in exceeding if f.criterion == TRANSFORM.name or not limits)


def close(findings: Sequence[Finding], later: Sequence[Finding], *, tests: bool, limits: bool, enough: float = CLOSE_P) -> frozenset[str]:
    """The criteria that whole searches may say more of; none where the model is backdoored by what was seen.

    Args:
        later: the findings as the same measurements would give them at the level of a second look.
        tests, limits: whether a test decides, and an absolute limit without a control, for such a model.
        enough: a p-value below which a test is close.
    """
    sure = [f for f in findings if f.exceeds and f.control is None and f.criterion != TRANSFORM.name]
    if any(f.own_null or (limits if f.p_value is None else tests) for f in sure):
        return frozenset()
    names: set[str] = set()
    for finding in later:
        if finding.not_done is not None or finding.own_null or finding.value is None or finding.limit is None:
            continue
        if finding.p_value is not None:
            if finding.p_value < enough or finding.blind is not None:
                names |= TESTS
        elif near(finding.value, finding.limit):
            names.add(measuring(finding))
    return frozenset(names)
