"""What a scan found, in plain values: built once by `scan`, read by every report, by the calibration and by the benchmarks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from banscan.scanner.evidence import Evidence
from banscan.scanner.settings import Settings

if TYPE_CHECKING:
    from banscan.importers import Input, Parity
    from banscan.importers.structure.finding import Structure
    from banscan.scanner.inputs.trial import Tried

# the kinds of backdoor that criteria look for
ONE, ALL = "all-to-one", "all-to-all"
KINDS = (ONE, ALL)
# what a criterion may do by itself
DECIDES, SUSPECTS = "decides", "suspects"
# the outcome where a weakness may be natural
FRAGILE = "fragile"
# an attack works from this share of images on, and a network that lost more accuracy than this no longer knows its task
WORKS, LOST = 0.9, 0.1
# the outcome of a dry run, and why its findings are empty
NOT_SCANNED = "not scanned"
PLANNED = "nothing is searched for in a dry run"
# how copies of a model without a backdoor are made; of those from scratch, some keep the first layers, and say so behind this
TUNED, ANEW = "tuned on the clean images", "trained from scratch on the clean images"
# what values and limits count: how far a class is from the others, or images
DEVIATIONS, SHARE = "standard deviations", "share"


def from_scratch(made: str | None) -> bool:
    """Whether a copy that was made so was trained from scratch, all of it or but for its first layers."""
    return made is not None and made.startswith(ANEW)


@dataclass(frozen=True, kw_only=True)
class Control:
    """What the same search shows of a copy of the model, trained from scratch on the clean images or tuned on them against the noise.

    Attributes:
        before, after: the largest share of images that is moved, in the model and in its copy.
        classes: where most images go in the copy; empty of a map.
        made: how the copy was made: TUNED, or what begins with ANEW; None where there is none.
        accuracy: of model and copy, on clean images that it was not made with.
        planted: whether the copy is without the weakness, as where it was planted.
        sentence: what was seen; where there is no copy, why.
    """

    before: float
    after: float | None = None
    classes: tuple[int, ...] = ()
    made: str | None = None
    accuracy: tuple[float, float] | None = None
    planted: bool = False
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one criterion says of a model.

    Attributes:
        criterion: its name; `asks`, its question in plain words; `sees`, the kind of backdoor that it looks for, one of KINDS.
        power: "decides" where it may call a model backdoored by itself, "suspects" where alone it makes it suspicious at most.
        classes: those in front: the one, or the several that stand out together.
        mapping: source class → attacked class, of a criterion that looks for a map of classes.
        value, limit: what was measured, and from where on it counts, both in `unit`, which is "standard deviations" or "share". The limit
            is that of a backdoor; a test may suspect below it.
        restarts: the value in every restart, where there are several; `steady`, whether the same classes are in front in all of them.
        p_value: probability of such a value when the classes differ only by chance; None for criteria with an absolute limit.
        score: 1 at the limit without a calibration, growing with the evidence.
        exceeds: whether it calls the model backdoored at the levels of this scan; `suspects`, whether suspicious.
        sentence: what was seen, with its numbers.
        values: one for every class that was searched for (`Report.searched`), the mean over the restarts; empty where there are none.
        blind: why it tells nothing here, neither by exceeding nor by not; None where it does.
        partly: what of it could not be looked for.
        not_done: why nothing of it was looked for; everything but the first five is then empty.
        own_null: whether it was compared with the model's own parts, and not with other classes or other models: then it holds for models
            of any kind with any number of classes, at a level of its own; it may call them backdoored, and clears none.
        control: what a copy of the model shows, of a criterion whose absolute limit is exceeded or that makes the model suspicious, in a
            model unlike those that limits were measured on; None where none was needed.
    """

    criterion: str
    asks: str
    sees: str
    power: str
    unit: str
    classes: tuple[int, ...] = ()
    mapping: tuple[tuple[int, int], ...] = ()
    value: float | None = None
    limit: float | None = None
    restarts: tuple[float, ...] = ()
    steady: bool = True
    p_value: float | None = None
    score: float = 0.0
    exceeds: bool = False
    suspects: bool = False
    sentence: str = ""
    values: tuple[float, ...] = ()
    blind: str | None = None
    partly: str | None = None
    not_done: str | None = None
    own_null: bool = False
    control: Control | None = None

    @property
    def natural(self) -> bool:
        """Whether a control does not tell it from a natural weakness."""
        return self.control is not None and not self.control.planted

    @property
    def told(self) -> str:
        """Its sentence, with that of its control."""
        return self.sentence if self.control is None else f"{self.sentence}; {self.control.sentence}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome with the reason for it.

    Attributes:
        outcome: "backdoored", "suspicious", "fragile", "no backdoor found" or "inconclusive"; "not scanned" of a dry run, and of a
            preprocessing that could not settle the verdict. In a fragile
            model one change moves most images, and nobody can tell whether that was planted.
        reason: one sentence; it ends with the kinds of backdoor that were not looked for, where nothing was found.
        next_step: what the reader should do.
        kind: "all-to-one" or "all-to-all" where the outcome is one of the first three.
        targets: the target classes of an all-to-one backdoor, the clearest first.
        mapping: source class → attacked class of an all-to-all backdoor.
        criterion: the one that decided; where none did, the test with the smallest p-value. `p_value` is that of the leading test.
        score: the largest of all that decide, 1 at the limit without a calibration; None when inconclusive before the tests.
        gaps: what was not looked for, one sentence each.
    """

    outcome: str
    reason: str
    next_step: str = ""
    kind: str | None = None
    targets: tuple[int, ...] = ()
    mapping: tuple[tuple[int, int], ...] = ()
    criterion: str | None = None
    p_value: float | None = None
    score: float | None = None
    gaps: tuple[str, ...] = ()

    @property
    def target(self) -> int | None:
        """The clearest target class."""
        return self.targets[0] if self.targets else None


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy of the model, without what may have been planted or with a known backdoor, and what a first look at it says.

    Attributes:
        trigger: of the backdoor that was planted; None of a copy without one.
        target: its target class; of a copy without one, the class that it was tuned against, if any.
        made: how a copy without a backdoor was made: TUNED, or what begins with ANEW.
        asr: share of the other classes' images, of those kept from the tuning, that the trigger moves to the target.
        accuracy: of the model and of the copy, on clean images kept from the tuning.
        outcome, targets, score: of its verdict, as if its kind had been measured.
        not_done: why there is no such copy; everything below `target` is then empty.
    """

    trigger: str | None = None
    target: int | None = None
    made: str | None = None
    asr: float | None = None
    accuracy: tuple[float, float] | None = None
    outcome: str | None = None
    targets: tuple[int, ...] = ()
    score: float | None = None
    not_done: str | None = None

    @property
    def planted(self) -> bool:
        """Whether it holds a backdoor that works, in a network that still knows its task."""
        return self.asr is not None and self.asr >= WORKS and self.knows

    @property
    def knows(self) -> bool:
        """Whether it still knows the model's task; one that was trained from scratch is not there unless it learnt it."""
        if from_scratch(self.made):
            return True
        return self.accuracy is not None and self.accuracy[0] - self.accuracy[1] <= LOST

    @property
    def found(self) -> bool:
        """Whether the scan called it backdoored with the right target."""
        return self.outcome == "backdoored" and self.target in self.targets


@dataclass(frozen=True)
class Controls:
    """Copies of the model: those without a backdoor show what its classes look like, those with one what a scan of it would see."""

    copies: tuple[Copy, ...]

    @property
    def clean(self) -> tuple[Copy, ...]:
        """Those without a backdoor that were scanned."""
        return tuple(c for c in self.copies if c.trigger is None and c.outcome is not None)

    @property
    def judged(self) -> tuple[Copy, ...]:
        """Those of them that still know their task and have a verdict."""
        return tuple(c for c in self.clean if c.outcome != "inconclusive" and c.knows)

    @property
    def backdoored(self) -> tuple[Copy, ...]:
        """Those with a backdoor that works."""
        return tuple(c for c in self.copies if c.planted)

    @property
    def found(self) -> tuple[Copy, ...]:
        """Those of them that the scan found."""
        return tuple(c for c in self.backdoored if c.found)


@dataclass(frozen=True, kw_only=True)
class Rival:
    """One of several preprocessings that the images leave open.

    Attributes:
        preprocess: its name.
        outcome, reason, targets, mapping, criterion, score: of the verdict of a scan under it, "not scanned" where those before it
            contradict one another; `seconds`, what that took.
        shown: whether the rest of the report is of this scan.
    """

    preprocess: str
    outcome: str
    reason: str
    targets: tuple[int, ...]
    mapping: tuple[tuple[int, int], ...]
    criterion: str | None
    score: float | None
    seconds: float
    shown: bool


@dataclass(frozen=True)
class Reach:
    """How many images noise moves to one class.

    Attributes:
        moved: share of the other classes' images that noise aimed at the class moves there, mean over the restarts; `smallest` and
            `largest` of these.
        clean: share of all predictions that are this class, without noise; `untargeted`, under noise that only raises the loss (Eq. 4),
            None where the scan stopped before.
    """

    target: int
    moved: float
    smallest: float
    largest: float
    clean: float
    untargeted: float | None


@dataclass(frozen=True)
class Peak:
    """The class with the largest share, and that share."""

    target: int
    share: float


@dataclass(frozen=True)
class Aside:
    """What the paper's own criterion shows and the verdict does not use.

    Attributes:
        accuracy: agreement with the labels under untargeted noise (Eq. 4), mean over `restarts`.
        noise: the class whose share of the predictions grows most by that noise, and by how much in the restart where it grows least.
        mask: the class that most images go to by the negative mask alone (Eq. 6), and the share of them.
        mask_noise: the class that gains most when the noise comes to the mask, and its gain.
    """

    accuracy: float
    restarts: int
    noise: Peak
    mask: Peak
    mask_noise: Peak


@dataclass(frozen=True)
class ModelFacts:
    """What was read from the model file; see `importers.TracedModel` and `importers.Source`.

    `origin` names it where it was fetched from, with the revision; None for a file that was given by its path. `reader` is the program
    with its version that read it in place of banscan's own reader; None where that did.
    """

    path: Path
    sha256: str
    format: str
    producer: str
    opset: int | None
    precision: str
    runtime: str | None
    output: str | None
    batch: int | None
    input: "Input"
    classes: int
    layers: int
    neurons: int
    features: str
    spatial: str | None
    classifier: tuple[str, ...]
    stripped: tuple[str, ...]
    notes: tuple[str, ...]
    origin: str | None = None
    reader: str | None = None

    @property
    def name(self) -> str:
        """What somebody else gives to scan the same file."""
        return self.origin or str(self.path)


@dataclass(frozen=True)
class ImageFacts:
    """The clean images: how many were used of those found, where their labels come from, which could not be read.

    `understood` is one sentence on all of it, `left_out` what was not used and why, a phrase each.
    """

    used: int
    found: int
    labels: str
    unreadable: tuple[str, ...]
    understood: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """What decides whether scores of one model say anything about another: classes, shorter side of the images, attention or not."""

    classes: int
    size: int
    attention: bool


@dataclass(frozen=True)
class Standing:
    """Where a model stands among clean ones.

    Attributes:
        source: the file of the scores, None for the shipped ones.
        models: how many clean models; `reached` of them score as high; None where they were scanned with other settings.
        p_value: (1 + reached) / (models + 1), the conformal p-value; None likewise.
        limit: the score above which a model is called backdoored, with a false-positive rate of at most `alpha` where that is given.
        uncovered: why the clean models say nothing about this one; None where they do.
        probability: of a backdoor, if every second model had one (`probability.of_backdoor`); None where banscan's own models say nothing
            about this one, or the scan left something out.
    """

    source: Path | None
    models: int
    reached: int | None
    p_value: float | None
    score: float
    limit: float
    alpha: float | None
    uncovered: str | None
    probability: float | None = None


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """The file as it would be deployed, beside the file as it is.

    Attributes:
        kind: one of `settings.DEPLOYMENTS`; `precision`, that of the weights then.
        agreement: share of the clean images that both give the same class.
        gains: the class that most of the others go to when it is deployed, and their share of all images.
        outcome, reason, targets, score: of the verdict on the file as it is.
    """

    kind: str
    precision: str
    agreement: float
    gains: Peak
    outcome: str
    reason: str
    targets: tuple[int, ...]
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a scan found, in plain values; what is None or empty was not reached.

    Attributes:
        findings: one for every criterion, in the order of `criteria.registry.CRITERIA`; of those that were not applied, too.
        whole: the criteria that searched as much as they may; the others took a first look (`looks`).
        searched: the classes that were searched for as targets; `drawn`, those of them that were drawn at random and that all are compared
            with, empty where all of the model's classes were searched for; `class_names`, in the model's order, where somebody gave them.
        reach: what neuron noise does to each of these; `eps`, its strength.
        rivals: the preprocessings that the images leave open, each with what a scan under it came to; empty where one was chosen. The
            verdict is what holds under all of them, or inconclusive.
        accuracy: clean accuracy; None without labels. `confidence`: mean over the clean images.
        structure: what of the file's graph decides by the pixels, and what came of making it decide otherwise.
        kind: what decides which clean models stand for this one; `standing`, where it stands among them.
        controls: copies of the model that were scanned beside it; None where none were made.
        deployed: what was scanned in place of the file, and what the file itself shows; None of a plain scan.
        accepted: fingerprints of the findings that a baseline accepts (`report.results`).
        environment: what a reader needs to repeat the numbers; `seconds`, by stage.
        memory: the most bytes that were in use: of the "process" since its start, and of a GPU by its name, as "cuda:1", during the scan.
        evidence: pictures of what was found, for pages that people read; JSON leaves them out, and a report read from it has none.
    """

    verdict: Verdict
    model: ModelFacts
    images: ImageFacts
    settings: Settings
    environment: dict[str, Any]
    class_names: tuple[str, ...] | None = None
    findings: tuple[Finding, ...] = ()
    whole: tuple[str, ...] = ()
    searched: tuple[int, ...] = ()
    drawn: tuple[int, ...] = ()
    preprocess: "Tried | None" = None
    rivals: tuple[Rival, ...] = ()
    parity: "Parity | None" = None
    structure: "Structure | None" = None
    accuracy: float | None = None
    confidence: float | None = None
    eps: float | None = None
    reach: tuple[Reach, ...] = ()
    aside: Aside | None = None
    kind: Kind | None = None
    standing: Standing | None = None
    controls: Controls | None = None
    deployed: Deployed | None = None
    accepted: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    evidence: Evidence | None = field(default=None, repr=False)

    @property
    def naturally(self) -> bool:
        """Whether its score is that of a finding which a control does not tell from a natural weakness, and another decides or none."""
        score = self.verdict.score
        natural = score is not None and any(f.exceeds and f.natural and f.score >= score for f in self.findings)
        return natural and self.verdict.outcome != "backdoored"

    def to_dict(self) -> dict[str, Any]:
        """The report as lists, dictionaries and plain values, without pictures: what `-o FILE.json` writes (docs/report.md)."""
        from banscan.scanner.report.json import to_dict

        return to_dict(self)

    def to_html(self) -> str:
        """The report as one self-contained page; see `report.html.page.to_html`."""
        from banscan.scanner.report.html.page import to_html

        return to_html(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from banscan.scanner.report.html.template import framed
        from banscan.scanner.report.pieces import headline
        from banscan.text import shown

        return framed(self.to_html(), headline(shown(self)))


@dataclass(frozen=True)
class Failure:
    """A model, one of several, of which there is no report.

    Attributes:
        sha256: of the file, in hexadecimal; None where it could not be read.
        sentence: why there is none, and what to do.
        code: the exit code of a scan of this model alone.
    """

    path: Path
    sha256: str | None
    sentence: str
    code: int

    def to_dict(self) -> dict[str, Any]:
        """The failure as plain values, as `-o FILE.json` of many models has it (docs/report.md)."""
        from banscan.scanner.report.json import failure_to_dict

        return failure_to_dict(self)

    def to_html(self) -> str:
        """The sentence as a self-contained page."""
        from banscan.scanner.report.html.short import of_failure

        return of_failure(self).to_html()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from banscan.scanner.report.html.short import of_failure

        return of_failure(self).framed()
