"""A control made from the model itself: does a copy without what was planted show what was found as well?

An absolute limit says that so much has no innocent reason. On the networks that it was measured on it has none; a shallow network, a grey
one or one of larger images may be that fragile by nature. There copies are searched as the model was: some trained from scratch on the
clean images, which have the classes and the layers of the model and none of its weights, or, where they learn too little so, only those of
its first layers; or, where that takes too long, one tuned on them against the noise (Eq. 8, the repair's tuning, shorter), aimed at what
was found. A planted trigger is one pattern that the network learnt besides its classes: no copy has it, and what is left is what the
classes explain. A natural weakness is not one pattern: a copy has it or another, at the same class or at others.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

from torch import fx
from torch._ops import OpOverload

from banscan.errors import EvidenceError, ModelError
from banscan.importers import TracedModel
from banscan.scanner import ahead, race, scratch, tuned
from banscan.scanner import subject as subjects
from banscan.scanner.criteria import registry
from banscan.scanner.criteria.base import MIN_CLASSES, NotDone
from banscan.scanner.criteria.clearness import CLEARNESS
from banscan.scanner.effort import Effort, at_most
from banscan.scanner.findings import ALL, DECIDES, LOST, TUNED, Control, Finding, Kind
from banscan.scanner.inputs.preprocess import answered
from banscan.scanner.levels import Levels
from banscan.scanner.machine.forecast import Forecast
from banscan.scanner.machine.progress import Progress, of_part
from banscan.scanner.search.class_map import Mapped, two_thirds
from banscan.scanner.settings import Settings
from banscan.scanner.subject import Subject

# what the absolute limits were measured on: pixels a side, channels, and layers of the shallowest network
SIDE, CHANNELS, LAYERS = 32, 3, 14
# the odds of being moved fall at least by this factor where what moved the images was planted (docs/method.md says what was measured),
# and by less than its square root where the copy shows the same
FALL = 10.0
STAGE = "control"
UNTOLD = "planted or natural cannot be told"
# so many copies are trained from scratch where none shows what was found: they differ by chance
COPIES = 3
# a share of images moved that a copy which shows as much says something of
MOST = 0.5
# what tests call what moves the images, whose values are shares that networks trained otherwise have alike; noise moves as many as the
# training made its neurons sensitive
MOVED_BY = {"perturbation": "one perturbation", "patch": "one patch"}
# criteria with absolute limits that read what a test measured
MEASURED_BY = {"patch share": "patch", CLEARNESS.name: "perturbation"}


def needed(subject: Subject, kind: Kind, levels: Levels) -> bool:
    """Whether absolute limits were measured on no network like this one; own clean models that set the limit are like it."""
    if levels.calibrated is not None:
        return False
    other = len(subject.searched) < MIN_CLASSES or grouped(subject.model)
    unlike = other or kind.size != SIDE or subject.model.input.channels != CHANNELS or len(subject.model.neurons) < LAYERS
    return unlike or levels.uncovered is not None


def grouped(model: TracedModel) -> bool:
    """Whether a convolution has groups, as depthwise ones do: noise on these moves clean networks along a map of classes as well."""

    def groups(node: fx.Node) -> object:
        names = [a.name for a in node.target._schema.arguments] if isinstance(node.target, OpOverload) else []
        place = names.index("groups") if "groups" in names else len(node.args)
        return node.args[place] if place < len(node.args) else node.kwargs.get("groups", 1)

    return any("conv" in str(node.target) and groups(node) != 1 for node in model.module.graph.nodes)


@dataclass(frozen=True, eq=False)
class Made:
    """A copy, ready for the searches.

    Attributes:
        how: it was made, TUNED or what begins with ANEW.
        accuracy: of model and copy, on images that it was not made with.
        searched: what was found in it, by what was asked, so that it is found once.
    """

    subject: Subject
    how: str
    accuracy: tuple[float, float]
    searched: dict[Any, tuple[Subject, Any]] = field(default_factory=dict)


# the copy with the classes that are searched for in it, and what a criterion of this name measures of it with this effort; whether along a
# map of classes
_Searching = Callable[[Made, str, Effort, bool], tuple[Subject, Any]]
# copies trained from scratch, by number, each made when it is asked for; each further set keeps more of the first layers
Sets = Sequence[Callable[[int], Made | None]]


def anew(subject: Subject, progress: Progress) -> Sets:
    """The copies that may be trained from scratch, none where a pass is dear; a copy is made once, however often it is asked for."""

    def copy(depth: float, number: int) -> Made | None:
        made = scratch.learnt(subject, number, depth, progress)
        try:
            return None if made is None else Made(subject_of(made.model, subject), made.how, made.accuracy)
        except EvidenceError:
            return None

    return () if subject.costly else tuple(cache(partial(copy, depth)) for depth in scratch.depths(subject.model))


def controlled(
    subject: Subject,
    findings: Sequence[Finding],
    levels: Levels,
    measured: Mapping[str, Any],
    sets: Sets,
    progress: Progress,
    stage: Callable[[str], AbstractContextManager[None]],
    efforts: Mapping[str, Effort] | None = None,
) -> tuple[Finding, ...]:
    """The findings, those that exceed an absolute limit or make the model suspicious with their control.

    Args:
        sets: see `anew`.
        efforts: with how much each criterion measured, where it is not that of the subject: the copy is searched as much.

    Where a test calls a class an outlier, the verdict depends on no limit but those of maps, and only these have a control. A test that
    makes the model suspicious has one if a copy could be trained from scratch; where that does not show the class, it counts as exceeded.
    """
    tested = levels.uncovered is None and any(f.exceeds and f.p_value is not None for f in findings)
    absolute = [_absolute(f) and not (tested and f.sees != ALL) for f in findings]
    suspect = [not tested and levels.uncovered is None and f.suspects and f.power == DECIDES for f in findings]
    if not any(absolute) and not any(suspect):
        return tuple(findings)
    copies: dict[Any, Made | str] = {}
    result = []
    asked = {measuring(f) for f, limit in zip(findings, absolute, strict=True) if limit} | (set(MOVED_BY) if any(suspect) else set())
    if sets and isinstance(progress, Forecast):
        _foretell(subject, asked, efforts or {}, progress)
    with stage(STAGE):
        search: _Searching = partial(_search, measured=measured, progress=progress)
        for finding, limit, doubt in zip(findings, absolute, suspect, strict=True):
            effort = (efforts or {}).get(measuring(finding), subject.effort)
            compared = partial(_compared, subject.searched_by(effort), finding, measuring(finding), measured, search)
            if limit:
                control = _by_scratch(compared, sets)
                if control is None:
                    aims = finding.mapping or finding.classes
                    if aims not in copies:
                        copies[aims] = _tuned(subject, finding, progress)
                    control = compared(copies[aims])
                result.append(replace(finding, control=control))
            elif doubt:
                result.append(_settled(subject, finding, sets, measured, search, efforts or {}))
            else:
                result.append(finding)
    return tuple(result)


def _foretell(subject: Subject, asked: Collection[str], efforts: Mapping[str, Effort], progress: Progress) -> None:
    """Tells what training copies from scratch and searching them by these criteria takes, where none fails."""
    searching = [
        work
        for criterion in registry.CRITERIA
        if criterion.name in asked
        for work in criterion.work(subject.searched_by(efforts.get(criterion.name, subject.effort)).extent)
    ]
    ahead.rest(progress, [work for n in range(COPIES) for work in (scratch.work(subject, n), *searching)], STAGE)


def _absolute(finding: Finding) -> bool:
    """Whether it exceeds a limit that no test and no control stands behind."""
    return finding.exceeds and finding.p_value is None and not finding.own_null and finding.control is None


def _by_scratch(compared: Callable[[Made], Control], sets: Sets) -> Control | None:
    """What copies trained from scratch show: the first that shows it, or that which shows most where none does.

    Of the first set in which so many learn their task that no more fail; None where there is no such set.
    """
    for copy in sets:
        shown, failed = list[Control](), 0
        while len(shown) < COPIES and failed <= len(shown):
            made = copy(len(shown) + failed)
            if made is None:
                failed += 1
                continue
            shown.append(compared(made))
            if not shown[-1].planted:
                return shown[-1]
        if len(shown) == COPIES:
            return max(shown, key=lambda control: control.after or 0.0)
    return None


def _tuned(subject: Subject, finding: Finding, progress: Progress) -> Made | str:
    """A tuned copy, or why there is none."""
    try:
        model, accuracy = tuned.tuned(subject, finding, progress)
        return Made(subject_of(model, subject), TUNED, accuracy)
    except (EvidenceError, ModelError) as error:
        return str(error).removeprefix(f"{subject.model.source.path}: ")


def _search(made: Made, name: str, effort: Effort, mapped: bool, *, measured: Mapping[str, Any], progress: Progress) -> tuple[Subject, Any]:
    """See `_Searching`; where not all classes are searched for, those in front in the copy may be others than in the model."""
    # noise along a map is as strong as that towards single classes was
    asked = name, effort, mapped, measured["noise"].eps if name == "noise map" else None
    if asked not in made.searched:
        subject = made.subject.searched_by(effort)
        other = subject if mapped else race.raced(subject, of_part(progress))
        made.searched[asked] = other, next(c for c in registry.CRITERIA if c.name == name).measure(other, measured, progress)
    return made.searched[asked]


def subject_of(model: TracedModel, of: Subject, settings: Settings | None = None) -> Subject:
    """A copy of the model of another subject, made ready for the searches with the same images.

    Raises:
        EvidenceError: see `subject.prepare`.
    """
    return subjects.prepare(model, of.preprocess, of.x, of.labels, answered(model, of.x), settings or of.settings, of.precision)


def _compared(
    subject: Subject, finding: Finding, name: str, measured: Mapping[str, Any], search: _Searching, made: Made | str, told: str = ""
) -> Control:
    """What the search of a criterion, by its name, shows of a copy; `told` says what it does to the model where the finding does not."""
    before = _most(subject, measured[name])[0]
    if isinstance(made, str):
        return Control(before=before, sentence=f"{UNTOLD}: no copy could be tuned ({made})")
    about: dict[str, Any] = {"before": before, "made": made.how, "accuracy": made.accuracy}
    if made.how == TUNED and made.accuracy[0] - made.accuracy[1] > LOST:  # another network, whose images move for other reasons
        fell = f"the accuracy of a copy {TUNED} fell from {made.accuracy[0]:.0%} to {made.accuracy[1]:.0%}"
        return Control(**about, sentence=f"{UNTOLD}: {fell}")
    other, again = search(made, name, subject.effort, bool(finding.mapping))
    if isinstance(again, NotDone):
        return Control(**about, sentence=f"{UNTOLD}: {again.why}")
    after, lead = _most(other, again)
    images = _images(subject, name)
    fall = odds(before, images) / odds(after, images)
    sentence = _sentence(made, after, lead, fall, told)
    return Control(**about, after=after, classes=lead, planted=fall >= FALL, sentence=sentence)


def _settled(
    subject: Subject,
    finding: Finding,
    sets: Sets,
    measured: Mapping[str, Any],
    search: _Searching,
    efforts: Mapping[str, Effort],
) -> Finding:
    """A finding that makes the model suspicious, with its control by what has its class in front and moves least in the copies."""
    shown = []
    for name, moved in MOVED_BY.items():
        if isinstance(measured.get(name, NotDone("")), NotDone):
            continue
        before, lead = _most(subject, measured[name])
        if lead != finding.classes:
            continue
        own = subject.searched_by(efforts.get(name, subject.effort))
        told = f"{moved} moves {before:.0%} of the images there in the model"
        compared = partial(_compared, own, finding, name, measured, search, told=told)
        shown.append(_by_scratch(compared, sets))
    controls = [control for control in shown if control is not None]
    if not controls:
        return finding
    control = min(controls, key=lambda c: (not c.planted, c.after or 0.0))
    if not control.planted:  # that a few images are moved in a copy as well says nothing
        return replace(finding, control=control) if control.before >= MOST else finding
    # told apart from chance twice: an outlier among the classes, and among networks that have the same classes
    return replace(finding, control=control, exceeds=True, score=max(1.0, finding.score))


def _images(subject: Subject, name: str) -> int:
    """Of how many images at least a criterion measured a share."""
    held = int((~two_thirds(subject.labels, subject.settings.seed)).sum())
    effort = subject.effort
    counts = {"perturbation": min(effort.perturbations.measured, len(subject.labels)), "patch": at_most(held, effort.patches.measured)}
    return counts.get(name, held)


def measuring(finding: Finding) -> str:
    """The criterion that measured what a finding is about."""
    return MEASURED_BY.get(finding.criterion, finding.criterion)


def odds(share: float, images: int) -> float:
    """The odds of a share of so many images, with half an image more on either side, which keeps them finite (Haldane, 1956)."""
    return (share * images + 0.5) / ((1 - share) * images + 0.5)


def _most(subject: Subject, measured: Any) -> tuple[float, tuple[int, ...]]:
    """The largest share that was moved, and to which class; of a map to none in particular."""
    if isinstance(measured, tuple) and measured and isinstance(measured[0], Mapped):
        return measured[0].moved, ()
    if isinstance(measured, tuple):
        moved = [(found.hits / max(1, found.images), (found.target,)) for found in measured]
        return max(moved, default=(0.0, ()))
    lead = int(measured.shown.argmax())
    return float(measured.shown[lead]), (int(subject.searched[lead]),)


def _sentence(made: Made, after: float, lead: tuple[int, ...], fall: float, told: str) -> str:
    how, several = made.how, fall >= FALL and made.how != TUNED
    share, to = f"{'at most ' if several else ''}{after:.0%}", f", to class {lead[0]}" if lead else ""
    shown = f"{told}, {share} in {'such a' if several else 'the'} copy{to}" if told else f"{share} of the images{to}"
    whole, copied = made.accuracy
    where = f"({shown}; {copied:.0%} of unseen clean images get their label, {whole:.0%} in the model)"
    if fall >= FALL:
        none = f"none of {COPIES} copies {how} shows it" if several else f"a copy {how} does not show it"
        return f"{none} {where}, as where it was planted"
    if fall < FALL**0.5:
        return f"a copy {how} shows the same {where}, which speaks for a natural weakness and proves none"
    return f"{UNTOLD}: a copy {how} still shows a part of it {where}"
