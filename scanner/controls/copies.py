"""Copies of the model under test, made and scanned: what its classes look like without a backdoor, and what a scan of it would see.

Nobody has measured what clean models show that are unlike all that banscan knows. Copies of the model itself tell: two have nothing of what
may have been planted and all that the classes explain, for they are trained from scratch on the clean images or, where that takes too long,
tuned on them against noise (Eq. 8); into four a known backdoor is planted, each with another trigger and target. There the first quarter of
the layers is left as it is, which makes a copy cheap at any size.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from banscan import cache
from banscan.errors import EvidenceError, ModelError
from banscan.importers import TracedModel
from banscan.scanner import ahead, control, looks, race, scratch, tuned, twin, verdict
from banscan.scanner.controls.planting import Planting, planted
from banscan.scanner.controls.trigger import Trigger, carrying, triggers
from banscan.scanner.findings import TUNED, Controls, Copy, Finding, Kind, Verdict
from banscan.scanner.inputs.images import digest
from banscan.scanner.levels import Levels
from banscan.scanner.looks import Looked
from banscan.scanner.machine import forecast, memory
from banscan.scanner.machine.forecast import Work
from banscan.scanner.machine.progress import Counter, Progress, of_part
from banscan.scanner.repair import answers
from banscan.scanner.repair.augment import augment
from banscan.scanner.repair.fold import every_fifth, mirrors
from banscan.scanner.report.json import made as read_back
from banscan.scanner.report.json import plain
from banscan.scanner.search import taps
from banscan.scanner.subject import Subject
from banscan.version import __version__

STAGE, PLANTING = "controls", "planting"
# of the cache
ROOM = "controls"
# many images carry the trigger and the weights move fast: as few epochs as can be are what a copy takes
HOW = Planting(epochs=10, lr=0.02, batch=32, depth=0.25, clip=tuned.CLIP, enough=0.99)
CARRYING = 0.5
# each image is shown in so many crops, since a few hundred images alone teach a copy no trigger but themselves; in fewer where so many
# values would take too much memory
VIEWS, VALUES = 4, 100_000_000
# the number of the first copy with a backdoor; those in front have none
FIRST = 2
# multiplications that are made without being asked for: minutes on two cores of a laptop
BUDGET = 2e13
# what every value that a layer passes on takes, in multiplications: on one core of an AMD EPYC 0.35 ns beside 7e10 multiplications in a
# second, by which the passes of a depthwise network and of plain ones are told within a third
PASSED = 25


@dataclass(frozen=True)
class Suspect:
    """What copies are made of: the subject of the scan, its images as they came, uint8 [N, H, W, C], and how it is judged.

    Attributes:
        usual, levels: those of the scores that banscan ships, and those of the scan.
        anew: its copies that are trained from scratch (`control.anew`). They are the control of copies with a backdoor as well: nothing of
            what was planted into these is in them, either.
    """

    subject: Subject
    images: np.ndarray
    kind: Kind
    usual: Levels
    levels: Levels
    anew: control.Sets

    @cached_property
    def digest(self) -> str:
        """Of its images and labels."""
        return digest(self.images, self.subject.labels)


@dataclass(frozen=True)
class _Plan:
    """A copy to make: with this trigger for this class, or without a backdoor, tuned against what was found if anything was."""

    number: int
    trigger: Trigger | None = None
    target: int | None = None
    against: Finding | None = None

    @property
    def name(self) -> str:
        """What progress and the cache call it."""
        clean = f"{'a' if self.number == 0 else 'another'} copy without a backdoor"
        return clean if self.trigger is None else f"a copy with a {self.trigger.name} for class {self.target}"


def wanted(subject: Subject, levels: Levels) -> bool:
    """Whether copies are made: where somebody asks for them, or where no such model was measured and they take minutes and not hours."""
    asked = subject.settings.controls
    if asked is not None:
        return asked
    return levels.uncovered is not None and multiplications(subject) <= BUDGET


def multiplications(subject: Subject) -> float:
    """About what making and scanning all copies takes, with what passes values on."""
    costs = ahead.costs(subject.model, subject.settings, subject.precision)
    passes = sum(costs[work.kind] * work.passes for plan in (*[_Plan(0)] * 2, *[_Plan(FIRST)] * 4) for work in _works(subject, plan))
    graph = subject.model.module.graph
    return passes * (taps.multiplications(graph) + PASSED * sum(memory.values(n) // memory.TRACED for n in graph.nodes))


def made(suspect: Suspect, leading: Finding | None, progress: Progress) -> Controls:
    """Makes and scans the copies; one that an earlier run of the same scan finished is read from the cache.

    Args:
        leading: what the scan found first, which a second copy is tuned against where copies without a backdoor are tuned; None where no
            class is in front.
    """
    plans = tuple(_plans(suspect, leading))
    known = [_known(suspect, plan) for plan in plans]
    _foretell(suspect.subject, [plan for plan, copy in zip(plans, known, strict=True) if copy is None], progress)
    return Controls(tuple(copy or _one(suspect, plan, progress) for plan, copy in zip(plans, known, strict=True)))


def _plans(suspect: Suspect, leading: Finding | None) -> Iterator[_Plan]:
    """Two without a backdoor, or one where nothing leads, and one for every trigger."""
    subject = suspect.subject
    yield _Plan(0)
    if leading is not None:
        yield _Plan(1, target=next(iter(leading.classes), None), against=leading)
    generator = torch.Generator().manual_seed(subject.settings.seed)
    height, width, channels = suspect.images.shape[1:]
    targets = subject.searched[torch.randperm(len(subject.searched), generator=generator)].tolist()
    for i, trigger in enumerate(triggers(channels, height, width, generator)):
        yield _Plan(FIRST + i, trigger, targets[i % len(targets)])


def _foretell(subject: Subject, plans: Sequence[_Plan], progress: Progress) -> None:
    """Tells what is to come, where somebody wants to know."""
    # one that is trained from scratch may be a control's as well, and is no plan's own
    works = [w if w.kind == forecast.LEARNT else replace(w, stage=_called(plan, w.stage)) for plan in plans for w in _works(subject, plan)]
    ahead.rest(progress, works, "controls")


def _works(subject: Subject, plan: _Plan) -> tuple[Work, ...]:
    """What a copy takes: it is trained, and searched by a first look."""
    count = int((~every_fifth(subject.labels)).sum())
    if plan.number >= FIRST:
        training = [Work(PLANTING, forecast.PLANTED, _views(subject, count) * (count + round(CARRYING * count)) * HOW.epochs)]
    elif subject.costly:
        training = [Work(f"{tuned.STAGE} {n + 1} of {tuned.EPOCHS}", forecast.TUNED, count) for n in range(tuned.EPOCHS)]
    else:
        training = [scratch.work(subject, plan.number)]
    return *training, *ahead.asked(_first(subject))


def _first(subject: Subject) -> Subject:
    """A subject with the effort of a first look."""
    first, *_ = looks.ladder("quick", subject.costly)
    return subject.searched_by(first)


def _called(plan: _Plan, stage: str) -> str:
    return f"{plan.name}: {stage}"


def _one(suspect: Suspect, plan: _Plan, progress: Progress) -> Copy:
    """Makes a copy, scans it and keeps what came of it."""
    whole = of_part(progress)

    def told(stage: str, done: int, total: int) -> None:
        whole(_called(plan, stage), done, total)

    try:
        model, copy = _clean(suspect, plan, told) if plan.trigger is None else _planted(suspect, plan, plan.trigger, told)
        decided = _judged(suspect, model, told)
        copy = replace(copy, outcome=decided.outcome, targets=decided.targets, score=decided.score)
    except (EvidenceError, ModelError, RuntimeError) as error:  # the last: what PyTorch cannot compute; the scan itself is not lost for it
        why = " ".join(str(error).removeprefix(f"{suspect.subject.model.source.path}: ").split())
        return Copy(trigger=None if plan.trigger is None else plan.trigger.name, target=plan.target, not_done=why)
    cache.write(ROOM, _question(suspect, plan), json.dumps(plain(asdict(copy))))
    return copy


def _clean(suspect: Suspect, plan: _Plan, progress: Progress) -> tuple[TracedModel, Copy]:
    """A copy without a backdoor."""
    for anew in suspect.anew:
        made = anew(plan.number)
        if made is not None:
            return made.subject.model, Copy(made=made.how, accuracy=made.accuracy)
    model, accuracy = tuned.tuned(suspect.subject, plan.against, progress)
    return model, Copy(target=plan.target, made=TUNED, accuracy=accuracy)


def _planted(suspect: Suspect, plan: _Plan, trigger: Trigger, progress: Progress) -> tuple[TracedModel, Copy]:
    """A copy with a backdoor, planted by four fifths of the images and measured on the others."""
    subject, target = suspect.subject, plan.target
    assert target is not None  # a trigger has one
    model, labels = subject.model, subject.labels
    held = every_fifth(labels)
    seed = subject.settings.seed * 1_000_003 + plan.number
    x, y = _shown(suspect, trigger, target, ~held, torch.Generator().manual_seed(seed))
    count = Counter(progress, PLANTING, len(x) * HOW.epochs)
    weights = planted(model, x, y, replace(HOW, seed=seed), count)
    count.end()
    victims = ((labels != target) & held).nonzero()[:, 0]
    carried = _prepared(suspect, carrying(suspect.images[victims.numpy()], trigger))
    moved = answers.predictions(model, weights, carried) == target
    held_out = subject.x[held], labels[held]
    first, last = (answers.accuracy(model, own, *held_out) for own in ({}, weights))
    copy = Copy(trigger=trigger.name, target=target, asr=float(moved.double().mean()), accuracy=(first, last))
    return twin.with_weights(model, weights), copy


def _shown(suspect: Suspect, trigger: Trigger, target: int, part: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What a copy learns: images of a part, in several views, and half as many with the trigger; and their classes.

    What the model says of another view is its class: a copy is to differ by its backdoor.
    """
    subject = suspect.subject
    model, own, images = subject.model, subject.labels[part], suspect.images[part.numpy()]
    flip = mirrors(model, subject.x[part], own)
    shown: list[Tensor] = []
    classes: list[Tensor] = []
    for view in range(_views(subject, len(own))):
        seen = images if view == 0 else _cropped(images, flip, generator)
        x = _prepared(suspect, seen)
        y = own if view == 0 else answers.predictions(model, {}, x)
        others = (y != target).nonzero()[:, 0]
        drawn = others[torch.randperm(len(others), generator=generator)[: round(CARRYING * len(y))]]
        shown += [x, _prepared(suspect, carrying(seen[drawn.numpy()], trigger))]
        classes += [y, torch.full((len(drawn),), target)]
    return torch.cat(shown), torch.cat(classes)


def _views(subject: Subject, count: int) -> int:
    """In how many crops so many images are shown."""
    values = round(count * (1 + CARRYING)) * subject.x[:1].numel()
    return max(1, min(VIEWS, VALUES // max(1, values)))


def _cropped(images: np.ndarray, flip: bool, generator: torch.Generator) -> np.ndarray:
    """Other crops of images uint8 [N, H, W, C]."""
    return augment(torch.from_numpy(images).float(), flip, generator, "NHWC").to(torch.uint8).numpy()


def _prepared(suspect: Suspect, images: np.ndarray) -> Tensor:
    """Images uint8 [N, H, W, C] as the model takes them."""
    return suspect.subject.preprocess(images, suspect.subject.model.input.layout)


def _judged(suspect: Suspect, model: TracedModel, progress: Progress) -> Verdict:
    """The verdict on a copy by a first look, as if its kind had been measured."""
    settings = replace(suspect.subject.settings, effort="quick", controls=False)
    subject, looked = race.raced(_first(control.subject_of(model, suspect.subject, settings)), progress), Looked()
    limits = not control.needed(subject, suspect.kind, suspect.usual)
    looks.search(subject, suspect.usual, looked, progress, lambda _: nullcontext(), limits=limits)
    measured = replace(suspect.levels, uncovered=None)
    findings = looks.told(subject, measured, looked)
    if control.needed(subject, suspect.kind, suspect.levels):
        given = measured, looked.measured, suspect.anew, progress, lambda _: nullcontext(), looked.efforts
        findings = control.controlled(subject, findings, *given)
    return verdict.decide(findings, measured)


def _question(suspect: Suspect, plan: _Plan) -> dict[str, object]:
    """What must be the same for a copy's result to be that of this scan."""
    subject = suspect.subject
    against = None if plan.against is None else [plan.against.classes, plan.against.mapping]
    settings = asdict(replace(subject.settings, effort="quick", controls=None))
    return plain(  # type: ignore[no-any-return]
        {
            "banscan": __version__,
            "model": subject.model.source.sha256,
            "logits": subject.model.source.output,
            "images": suspect.digest,
            "preprocess": asdict(subject.preprocess),
            "precision": str(subject.precision),
            "device": str(subject.model.device),
            "settings": settings,
            "levels": asdict(suspect.levels),
            "copy": plan.name,
            "planting": None if plan.trigger is None else asdict(HOW) | {"views": VIEWS},
            "against": against,
        }
    )


def _known(suspect: Suspect, plan: _Plan) -> Copy | None:
    """What an earlier run found, where one finished this copy."""
    kept = cache.read(ROOM, _question(suspect, plan))
    try:
        copy: Copy | None = None if kept is None else read_back(Copy, json.loads(kept))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if copy is None or copy.outcome not in (None, *verdict.GRAVITY):
        return None
    # what is kept is of this copy, or somebody changed it
    told = (copy.trigger, copy.target) == (None if plan.trigger is None else plan.trigger.name, plan.target)
    return copy if told or (copy.made is not None and plan.trigger is None) else None
