"""A control made from the model itself: does what exceeds an absolute limit go with a tuning on clean images, as what was planted does?

An absolute limit says that so much has no innocent reason. On the networks that it was measured on it has none; a shallow network, a grey
one or one of larger images may be that fragile by nature. There a copy is tuned on the clean images against the noise (Eq. 8, the repair's
tuning, shorter), aimed at what was found, and searched as the model was. A planted trigger is one pattern that the network learnt besides
its classes: the tuning takes it out, and what is left is what the classes explain. A natural weakness is not one pattern: others take
the place of those that the tuning took out, at the same class or at others.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from banscan.errors import EvidenceError, ModelError
from banscan.importers import TracedModel, attribute_named
from banscan.scanner import race
from banscan.scanner import subject as subjects
from banscan.scanner.criteria import registry
from banscan.scanner.criteria.base import MIN_CLASSES, NotDone
from banscan.scanner.criteria.clearness import CLEARNESS
from banscan.scanner.effort import Effort, at_most
from banscan.scanner.findings import ALL, LOST, Control, Finding, Kind
from banscan.scanner.inputs.preprocess import answered
from banscan.scanner.levels import Levels
from banscan.scanner.machine.progress import Progress, of_part
from banscan.scanner.repair import answers, patch_pool, trainable
from banscan.scanner.repair.course import Course
from banscan.scanner.repair.fold import every_fifth, mirrors
from banscan.scanner.repair.settings import Tuning
from banscan.scanner.search import pixel_model
from banscan.scanner.search.class_map import Mapped, two_thirds
from banscan.scanner.settings import Settings
from banscan.scanner.subject import Subject

# what the absolute limits were measured on: pixels a side, channels, and layers of the shallowest network
SIDE, CHANNELS, LAYERS = 32, 3, 14
EPOCHS, CLIP = 8, 0.3
# the odds of being moved fall at least by this factor where what moved the images was planted (docs/method.md says what was measured),
# and by less than its square root where the copy shows the same
FALL = 10.0
STAGE = "control"
# what progress calls the epochs
TUNING = "tuning, epoch"
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


def controlled(
    subject: Subject,
    findings: Sequence[Finding],
    levels: Levels,
    measured: Mapping[str, Any],
    progress: Progress,
    stage: Callable[[str], AbstractContextManager[None]],
    efforts: Mapping[str, Effort] | None = None,
) -> tuple[Finding, ...]:
    """The findings, those that exceed an absolute limit with their control; a copy is tuned for each class or map that they name.

    Args:
        efforts: with how much each criterion measured, where it is not that of the subject: the copy is searched as much.

    Where a test calls a class an outlier, the verdict depends on no limit but those of maps, and only these have a control.
    """
    tested = levels.uncovered is None and any(f.exceeds and f.p_value is not None for f in findings)
    copies: dict[Any, tuple[Subject, tuple[float, float]] | str] = {}
    result = []
    for finding in findings:
        absolute = finding.exceeds and finding.p_value is None and not finding.own_null and finding.control is None
        if not absolute or (tested and finding.sees != ALL):
            result.append(finding)
            continue
        with stage(STAGE):
            aims = finding.mapping or finding.classes
            effort = (efforts or {}).get(measuring(finding), subject.effort)
            if aims not in copies:
                copies[aims] = _copy(subject, finding, effort, progress)
            result.append(replace(finding, control=_compared(subject.searched_by(effort), finding, copies[aims], measured, progress)))
    return tuple(result)


def _copy(subject: Subject, finding: Finding, effort: Effort, progress: Progress) -> tuple[Subject, tuple[float, float]] | str:
    """A tuned copy, made ready for the searches, and the accuracy before and after; or why there is none."""
    try:
        model, accuracy = tuned(subject, finding, progress)
        made = subject_of(model, subject)
        # where not all classes are searched for, those in front in the copy may be others
        return made if finding.mapping else race.raced(made.searched_by(effort), of_part(progress)), accuracy
    except (EvidenceError, ModelError) as error:
        return str(error).removeprefix(f"{subject.model.source.path}: ")


def subject_of(model: TracedModel, of: Subject, settings: Settings | None = None) -> Subject:
    """A copy of the model of another subject, made ready for the searches with the same images.

    Raises:
        EvidenceError: see `subject.prepare`.
    """
    return subjects.prepare(model, of.preprocess, of.x, of.labels, answered(model, of.x), settings or of.settings, of.precision)


def tuned(subject: Subject, finding: Finding | None, progress: Progress) -> tuple[TracedModel, tuple[float, float]]:
    """A copy tuned on four fifths of the images, and the accuracies on the others.

    Args:
        finding: says where the noise is aimed that the copy is tuned against; None for noise that raises the loss, and for no teacher,
            who would hand a backdoor on.
    """
    model, classes = subject.model, subject.classes
    aims: Tensor | None = None
    if finding is not None:
        aims = torch.arange(classes)
        if finding.mapping:
            for source, attacked in finding.mapping:
                aims[source] = attacked
        else:
            aims[:] = finding.classes[0]
    held = every_fifth(subject.labels)
    images, labels = subject.x[~held], subject.labels[~held]
    how = replace(Tuning(), epochs=EPOCHS, clip=CLIP, seed=subject.settings.seed, flip=mirrors(model, images, labels))
    how = how if finding is not None else replace(how, teacher=0.0)
    limits = pixel_model.limits(model, subject.preprocess)
    state = trainable.evened(model, trainable.start(model, images, depth=how.depth))
    pool = patch_pool.LIGHT if subject.costly else patch_pool.WHOLE
    Course(model, subject.preprocess, how, images, labels, limits, aims, pool).run(state, [], stage=TUNING, progress=progress)
    weights = trainable.finished(model, state, images)
    held_out = subject.x[held], subject.labels[held]
    first, last = (answers.accuracy(model, own, *held_out) for own in ({}, weights))
    return with_weights(model, weights), (first, last)


def with_weights(model: TracedModel, weights: dict[str, torch.Tensor]) -> TracedModel:
    """A copy of a model with these of the file's weights in place of its own."""
    module = copy.deepcopy(model.module)
    for name, value in model.constants(weights).items():
        attribute_named(module, name).data.copy_(value)
    return replace(model, module=module)


def _compared(
    subject: Subject,
    finding: Finding,
    made: tuple[Subject, tuple[float, float]] | str,
    measured: Mapping[str, Any],
    progress: Progress,
) -> Control:
    """What the same search shows of the copy."""
    name = measuring(finding)
    before = _most(subject, measured[name])[0]
    if isinstance(made, str):
        return Control(before=before, sentence=f"planted or natural cannot be told: no copy could be tuned ({made})")
    other, accuracy = made
    if accuracy[0] - accuracy[1] > LOST:  # another network, whose images move for other reasons
        fell = f"the accuracy of a copy tuned on the clean images fell from {accuracy[0]:.0%} to {accuracy[1]:.0%}"
        return Control(before=before, accuracy=accuracy, sentence=f"planted or natural cannot be told: {fell}")
    criterion = next(c for c in registry.CRITERIA if c.name == name)
    again = criterion.measure(other.searched_by(subject.effort), measured, progress)
    if isinstance(again, NotDone):
        return Control(before=before, accuracy=accuracy, sentence=f"planted or natural cannot be told: {again.why}")
    after, lead = _most(other, again)
    held = int((~two_thirds(subject.labels, subject.settings.seed)).sum())
    effort = subject.effort
    counts = {"perturbation": min(effort.perturbations.measured, len(subject.labels)), "patch": at_most(held, effort.patches.measured)}
    images = counts.get(name, held)
    fall = odds(before, images) / odds(after, images)
    return Control(
        before=before,
        after=after,
        classes=lead,
        accuracy=accuracy,
        planted=fall >= FALL,
        sentence=_sentence(after, lead, fall),
    )


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


def _sentence(after: float, lead: tuple[int, ...], fall: float) -> str:
    where = f", to class {lead[0]} at most" if lead else ""
    if fall >= FALL:
        return f"a copy tuned on the clean images does not show it ({after:.0%}{where}), as where it was planted"
    if fall < FALL**0.5:
        return f"a copy tuned on the clean images shows the same ({after:.0%}{where}), which speaks for a natural weakness and proves none"
    return f"planted or natural cannot be told: a copy tuned on the clean images still shows a part of it ({after:.0%}{where})"
