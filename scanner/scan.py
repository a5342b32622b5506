"""One scan from model file and images to a report, in named stages."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from banscan import importers
from banscan.errors import EvidenceError, MisreadError, ModelError
from banscan.importers import TracedModel, formats
from banscan.importers.load import refused
from banscan.importers.structure.finding import Look, Structure
from banscan.kernels import backend
from banscan.scanner import ahead, calibration, control, facts, logic, looks, pictures, plan, probability, race, rivals, verdict
from banscan.scanner.aside import Untargeted, aside, shares, untargeted
from banscan.scanner.calibration import Calibration
from banscan.scanner.controls import copies
from banscan.scanner.controls.copies import Suspect
from banscan.scanner.criteria import registry
from banscan.scanner.criteria.base import NotDone
from banscan.scanner.criteria.noise import Moved
from banscan.scanner.extent import Extent
from banscan.scanner.findings import FRAGILE, Finding, Reach, Report, Verdict
from banscan.scanner.inputs import checks, images, order, preprocess, trial
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.inputs.trial import Choice, UndecidedError
from banscan.scanner.looks import Looked
from banscan.scanner.machine import allocator, memory
from banscan.scanner.machine.device import find, repeatable
from banscan.scanner.machine.precision import search_dtype
from banscan.scanner.machine.progress import Counter, Progress, silent
from banscan.scanner.places import place
from banscan.scanner.search.taps import costly
from banscan.scanner.settings import Options, Settings
from banscan.scanner.subject import Subject, prepare

# images that the file's own runtime answers; fewer of large ones, which it takes all at once
PARITY_IMAGES, PARITY_LEAST = 64, 8
# what PyTorch says of a place outside a table, which a graph may look up by the pixels
OUTSIDE = re.compile(r"index out of range in self|out of bounds for dimension")


@dataclass(frozen=True)
class Examined:
    """A report with what it was made from: the model on the device of the scan, the images, their preprocessing where one was found.

    The model is None where it could not be read for the logic that is in its graph; the report says so.
    """

    report: Report
    model: TracedModel | None
    clean: CleanSet
    preprocess: Preprocess | None


def scan(
    path: str | Path,
    clean_dir: str | Path,
    *,
    settings: Settings | None = None,
    options: Options | None = None,
    against: Calibration | None = None,
    progress: Progress = silent,
) -> Report:
    """Scans one model for a backdoor.

    Args:
        path: a classifier as ONNX, TorchScript or torch.export archive; `hf://owner/name` and `models:/name/version` are fetched.
        clean_dir: a folder of clean images, in class folders, flat, or labelled by a table; see `inputs.images.load`.
        settings: how a backdoor is searched for; None for the defaults.
        options: how model and images are read, and where the scan runs; None for the defaults.
        against: scores of own clean models, which set the threshold; None for those that banscan ships.
        progress: called with stage name, work done and work in all.

    Raises:
        UsageError: a path, folder or setting that cannot be.
        ModelError: the file holds no image classifier.
        BanscanError: a model elsewhere cannot be fetched.

    Example:
        >>> report = scan("model.onnx", "imgs/", options=Options(device="cpu"))
        >>> report.verdict.outcome, report.verdict.targets
    """
    with place.local(path) as model:
        report = _whichever(model.path, clean_dir, settings, options, against, progress, dry=False)
    return model.named(report)


def dry_run(
    path: str | Path,
    clean_dir: str | Path,
    *,
    settings: Settings | None = None,
    options: Options | None = None,
    against: Calibration | None = None,
    progress: Progress = silent,
) -> Report:
    """Everything that `scan` does before it searches: what was read and understood, and whether a scan could come to a verdict.

    Arguments and errors are those of `scan`. The outcome is "not scanned" where a scan could go on, and "inconclusive" where it would end
    without a verdict; every finding says in `not_done` why it is empty.
    """
    with place.local(path) as model:
        report = _whichever(model.path, clean_dir, settings, options, against, progress, dry=True)
    return model.named(report)


def _whichever(
    path: Path,
    clean_dir: str | Path,
    settings: Settings | None,
    options: Options | None,
    against: Calibration | None,
    progress: Progress,
    *,
    dry: bool,
) -> Report:
    """The report on a model; where the images leave open which preprocessing is right, of a scan under each that can settle the verdict."""

    def examined(options: Options, progress: Progress) -> Report:
        report = examine(path, clean_dir, settings=settings, options=options, against=against, progress=progress, dry=dry).report
        # not before the model and its images are gone
        allocator.give_back()
        return report

    options = options or Options()
    report = examined(options, progress)
    names = () if report.preprocess is None else report.preprocess.rivals
    if not names:
        return report
    found: dict[str, Report] = {}
    for i, name in enumerate(names):
        if not dry and verdict.contradicts({n: r.verdict for n, r in found.items()}):
            found[name] = rivals.unasked(report)
            continue
        with rivals.turn(progress, f"under {name}, {i + 1} of {len(names)}", last=i == len(names) - 1) as told:
            found[name] = examined(replace(options, preprocess=name), told)
    return rivals.together(report, found)


def examine(
    path: str | Path,
    clean_dir: str | Path,
    *,
    settings: Settings | None = None,
    options: Options | None = None,
    against: Calibration | None = None,
    progress: Progress = silent,
    dry: bool = False,
) -> Examined:
    """`scan`, or with `dry` `dry_run`, for those who go on with the model."""
    settings, options = settings or Settings(), options or Options()
    if against is not None:
        against.check(settings)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    where = find(options.device)
    backend(where)  # a wrong BANSCAN_KERNELS is told before any work
    given = preprocess.given(options)
    stages = _Stages()
    memory.restart(where)
    precision = search_dtype(options.precision, where)
    try:
        model, clean, structure = _read(Path(path), Path(clean_dir), settings, options, stages, progress)
    except _UnreadError as unread:
        known = Report(
            verdict=logic.unread(unread.structure, unread.why),
            model=facts.of_unread(Path(path), unread.seen),
            images=facts.of_images(unread.clean),
            settings=settings,
            environment=facts.environment(precision, where),
            class_names=unread.clean.names,
            structure=unread.structure,
            seconds=stages.seconds,
            memory=memory.most(where),
        )
        return Examined(replace(known, verdict=logic.weighed(known.verdict, unread.structure)), None, unread.clean, None)
    model.to(where)
    draft = _Draft(
        Report(
            verdict=verdict.inconclusive(""),
            model=facts.of_model(model),
            images=facts.of_images(clean),
            settings=settings,
            environment=facts.environment(precision, where),
            class_names=clean.names,
            structure=structure,
        )
    )
    chosen: Preprocess | None = None
    allocator.keep(where)
    try:
        with repeatable(where), memory.bounded(options.room):
            if against is not None:
                against.check_model(model.source.sha256)
            checks.check_weights(model)
            # before anything else is asked of too few images
            checks.check_images(clean.different, 2 if clean.labels is None else len(clean.labels.unique()), settings.min_images)
            _foretell(model, clean, given is not None, settings, precision, progress)
            choice = _preprocessing(model, clean, given, stages, progress)
            chosen = choice.preprocess
            draft.add(preprocess=choice)
            if not dry:
                model = _without_logic(model, clean, chosen, options, draft, stages)
            try:
                subject = _subject(model, clean, chosen, settings, precision, draft, stages, progress)
            except MisreadError as error:
                model = _read_again(model, clean, error, options, draft, stages)
                choice = _preprocessing(model, clean, given, stages, progress)
                chosen = choice.preprocess
                draft.add(preprocess=choice)
                try:
                    subject = _subject(model, clean, chosen, settings, precision, draft, stages, progress)
                except MisreadError as other:
                    raise EvidenceError(refused(error, other, model.source.path)) from other
            (_plan if dry else _judge)(subject, against or calibration.shipped(), clean, draft, stages, progress)
    except UndecidedError as error:
        draft.add(verdict=verdict.inconclusive(str(error)), preprocess=error.tried)
    except EvidenceError as error:
        draft.add(verdict=verdict.inconclusive(str(error)))
    except (IndexError, RuntimeError) as error:
        if not OUTSIDE.search(str(error)):
            raise
        why = f"the graph fails on images that differ from the clean ones ({error}), so what they would show cannot be searched for"
        draft.add(verdict=verdict.inconclusive(f"{why}; ask whoever made the file what looks values up by the pixels"))
    by_score = draft.report.verdict.outcome
    draft.add(seconds=stages.seconds, memory=memory.most(where), verdict=logic.weighed(draft.report.verdict, draft.report.structure))
    return Examined(probability.of_its_verdict(draft.report, by_score), model, clean, chosen)


class _Stages:
    """The seconds of every stage, behind which not much memory stays unused."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            allocator.give_back(above=allocator.KEPT)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


class _Draft:
    """What is known so far; a scan that stops early reports it."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def add(self, **known: Any) -> None:
        self.report = replace(self.report, **known)


def _read(
    path: Path, folder: Path, settings: Settings, options: Options, stages: _Stages, progress: Progress
) -> tuple[TracedModel, CleanSet, Structure | None]:
    """Model, images, and what was taken out of the model to read it; one that takes any size is read again for that of the images."""
    with stages("import"):
        progress("reading the model", 0, 1)
        try:
            model = importers.load(path, options.sides, options.logits)
        except ModelError as error:
            seen = logic.look(path, options.logits)
            if seen is None:
                raise
            return _read_apart(path, folder, seen, error, settings, options, progress)
        progress("reading the model", 1, 1)
    with stages("images"):
        progress("reading the images", 0, 1)
        clean = images.load(folder, model.input, model.classes, options, known=model.class_names, seed=settings.seed)
        progress("reading the images", 1, 1)
    if model.input.height is None or model.input.width is None:
        with stages("import"):
            height, width = clean.images.shape[1:3]
            model = importers.load(path, (height, width), options.logits)
    return model, clean, None


class _UnreadError(Exception):
    """A file that cannot be read, since, or although, its graph decides by the pixels."""

    def __init__(self, structure: Structure, seen: Look, clean: CleanSet, why: str) -> None:
        super().__init__(why)
        self.structure, self.seen, self.clean, self.why = structure, seen, clean, why


def _read_apart(
    path: Path, folder: Path, seen: Look, error: ModelError, settings: Settings, options: Options, progress: Progress
) -> tuple[TracedModel, CleanSet, Structure]:
    """The network of a file that cannot be read with the logic beside it, without that, and images."""
    if seen.classes < 2:
        raise EvidenceError(f"{path}: {logic.sentence(seen.structure.places[0])}; and it cannot be read ({error})") from error
    clean = images.load(folder, seen.input, seen.classes, options, seed=settings.seed)
    found = logic.apart(path, options.logits, clean.images, seen.input, preprocess.given(options))
    if found.model is None:
        # what could not be run was seen all the same
        structure = found.structure if found.structure.places else replace(found.structure, places=seen.structure.places)
        raise _UnreadError(structure, seen, clean, str(error).removeprefix(f"{path}: "))
    progress("reading the model", 1, 1)
    return found.model, clean, replace(found.structure, apart=True)


def _without_logic(
    model: TracedModel, clean: CleanSet, chosen: Preprocess, options: Options, draft: _Draft, stages: _Stages
) -> TracedModel:
    """The model without what its graph decides by the pixels, where that was proved; the report says what it was."""
    with stages("structure"):
        found, without = logic.again(model, options.logits, clean.images, chosen)
    draft.add(structure=found)
    if without is not model:
        without.to(model.device)
        draft.add(model=facts.of_model(without))
    return without


def _read_again(model: TracedModel, clean: CleanSet, error: MisreadError, options: Options, draft: _Draft, stages: _Stages) -> TracedModel:
    """The model of a file that was not read right, by the second reader of its format.

    Raises:
        EvidenceError: there is none, or it does not read the file.
    """
    source = model.source
    if formats.of(source).second is None or source.reader is not None:
        raise error
    with stages("import"):
        height, width = clean.images.shape[1:3]
        try:
            again = importers.load(source.path, (height, width), options.logits, source.settled, again=True)
        except ModelError as other:
            raise EvidenceError(refused(error, other, source.path)) from other
    again.to(model.device)
    draft.add(model=facts.of_model(again))
    return again


def _preprocessing(model: TracedModel, clean: CleanSet, given: Preprocess | None, stages: _Stages, progress: Progress) -> Choice:
    with stages("preprocess"):
        if given is not None:
            return Choice(given, "given", ())
        return trial.choose(model, clean.images, clean.labels, progress=progress)


def _foretell(model: TracedModel, clean: CleanSet, given: bool, settings: Settings, precision: torch.dtype, progress: Progress) -> None:
    """What is to come, before much of it is known."""
    first, *_ = looks.ladder(settings.effort, costly(model.module.graph))
    extent = Extent(len(clean.images), race.most(model.classes, settings), settings, first, begun=race.wanted(model.classes, settings))
    ahead.everything(progress, model, extent, precision, given=given)


def _subject(
    model: TracedModel,
    clean: CleanSet,
    chosen: Preprocess,
    settings: Settings,
    precision: torch.dtype,
    draft: _Draft,
    stages: _Stages,
    progress: Progress,
) -> Subject:
    """The model made ready for the searches, after everything that must hold before a verdict can be trusted."""
    with stages("preprocess"):
        x = preprocess.Preprocessed(clean.images, chosen, model.input.layout)
        logits = preprocess.answered(model, x, Counter(progress, ahead.ANSWERING, len(x)))
    checks.check_logits(logits)
    with stages("parity"):
        compared = min(PARITY_IMAGES, max(PARITY_LEAST, memory.answered_at_once(model.module.graph.nodes, torch.device("cpu"))))
        apart = max(1, len(x) // compared)
        parity = importers.parity(model, x[: apart * compared : apart])
        draft.add(parity=parity)
        if parity is not None:
            checks.check_parity(parity, model.source.precision)
    predictions = logits.argmax(1)
    labels = predictions if clean.labels is None else clean.labels
    confidence = float(logits.softmax(1).max(1).values.mean())
    accuracy = None if clean.labels is None else float((predictions == labels).float().mean())
    draft.add(confidence=confidence, accuracy=accuracy)
    checks.check_images(clean.different, len(labels.unique()), settings.min_images)
    other = None
    if accuracy is not None:
        floor = checks.least_accuracy(settings.min_accuracy, model.classes)
        other = order.other(predictions, labels, model.classes, floor) if accuracy < floor else None
    checks.check_accuracy(accuracy, confidence, settings.min_accuracy, model.classes, other)
    with stages("statistics"):
        subject = prepare(model, chosen, x, labels, logits, settings, precision, progress)
    if subject.precision != precision:
        draft.add(environment=facts.environment(subject.precision, model.device))
    return subject


def _plan(subject: Subject, known: Calibration, clean: CleanSet, draft: _Draft, stages: _Stages, progress: Progress) -> None:
    """What a scan would look for, in place of looking."""
    kind = calibration.kind_of(subject.model, clean)
    levels = known.levels(kind)
    found = plan.findings(subject, levels)
    draft.add(
        searched=tuple(subject.searched.tolist()),
        kind=kind,
        findings=found,
        verdict=plan.verdict_of(found, levels, copies=copies.wanted(subject, levels)),
    )


def _judge(subject: Subject, known: Calibration, clean: CleanSet, draft: _Draft, stages: _Stages, progress: Progress) -> None:
    """Measures by every criterion, and decides. Where a measurement fails, the report has those before it."""
    kind = calibration.kind_of(subject.model, clean)
    levels = known.levels(kind)
    subject = _racing(subject, stages, progress)
    drawn = () if subject.drawn is None else tuple(subject.standing.tolist())
    draft.add(searched=tuple(subject.searched.tolist()), drawn=drawn, kind=kind)
    looked = Looked()
    # what is close is the same with a calibration, so that its scores are
    usual = calibration.shipped().levels(kind)
    limits = not control.needed(subject, kind, usual)
    measured = looked.measured
    try:
        looks.search(subject, usual, looked, progress, stages, limits=limits)
        findings = looks.told(subject, levels, looked)
        _show_noise(subject.searched_by(looked.efforts["noise"]), measured["noise"], draft, stages, progress)
    except EvidenceError as error:
        known_so_far = dict.fromkeys((c.name for c in registry.CRITERIA), NotDone(str(error))) | measured
        draft.add(findings=looks.told(subject, levels, replace(looked, measured=known_so_far)), whole=looked.whole)
        raise
    draft.add(whole=looked.whole)
    anew = control.anew(subject, progress)
    if control.needed(subject, kind, levels):
        findings = control.controlled(subject, findings, levels, measured, anew, progress, stages, looked.efforts)
    decided = verdict.decide(findings, levels)
    draft.add(findings=findings, verdict=decided)
    if copies.wanted(subject, levels) and (subject.settings.controls or not verdict.settled(decided, findings)):
        with stages(copies.STAGE):
            decided = _with_controls(Suspect(subject, clean.images, kind, usual, levels, anew), findings, draft, progress)
    else:
        decided = verdict.untried(decided, levels)
    decided = verdict.unsettled(decided, subject.double)
    draft.add(verdict=decided)
    with stages("pictures"):
        draft.add(evidence=pictures.evidence(subject, clean.images, measured, decided))
    draft.add(standing=calibration.standing(known, kind, decided, subject.settings))


def _with_controls(suspect: Suspect, findings: tuple[Finding, ...], draft: _Draft, progress: Progress) -> Verdict:
    """The verdict in the light of copies of the model, where they can say anything of it."""
    decided = verdict.decide(findings, replace(suspect.levels, uncovered=None))
    if suspect.subject.settings.controls or decided.outcome not in (FRAGILE, "inconclusive"):
        leading = next((f for f in findings if f.criterion == decided.criterion and (f.classes or f.mapping)), None)
        controls = copies.made(suspect, leading, progress)
        decided = verdict.by_controls(decided, suspect.levels, controls, findings)
        draft.add(controls=controls, verdict=decided)
    return draft.report.verdict


def _racing(subject: Subject, stages: _Stages, progress: Progress) -> Subject:
    """The subject with the classes that are searched for, in a stage of its own where there is something to choose."""
    if not race.wanted(subject.classes, subject.settings):
        return subject
    first, *_ = looks.ladder(subject.settings.effort, subject.costly)
    with stages("race"):
        return race.raced(subject.searched_by(first), progress)


def _show_noise(subject: Subject, noise: Moved | NotDone, draft: _Draft, stages: _Stages, progress: Progress) -> None:
    """What noise does to every class, and what the paper's own criterion makes of it."""
    if isinstance(noise, NotDone):
        return
    draft.add(eps=noise.eps, reach=_reach(subject, noise, None))
    with stages("untargeted"):
        found = untargeted(subject, noise.eps, progress)
        draft.add(reach=_reach(subject, noise, found), aside=aside(subject, found, progress))


def _reach(subject: Subject, noise: Moved, found: Untargeted | None) -> tuple[Reach, ...]:
    """What noise does to each class that was searched for."""
    clean = shares(subject.logits.argmax(1), subject.classes).tolist()
    under = None if found is None else shares(found.logits.argmax(2).flatten(), subject.classes).tolist()
    rows = zip(subject.searched.tolist(), noise.moved.T, strict=True)
    return tuple(
        Reach(c, float(row.mean()), float(row.min()), float(row.max()), clean[c], None if under is None else under[c]) for c, row in rows
    )
