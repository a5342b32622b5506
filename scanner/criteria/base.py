"""What a criterion is: a way of judging, in a file of its own, that measures a model and says what it found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from banscan.scanner.extent import Extent
from banscan.scanner.findings import Finding
from banscan.scanner.levels import Levels
from banscan.scanner.machine.forecast import Work
from banscan.scanner.machine.progress import Progress
from banscan.scanner.subject import Subject
from banscan.text import counted

# with fewer classes none can be told to stand out among the others
MIN_CLASSES = 5


@dataclass(frozen=True)
class NotDone:
    """In place of a measurement: why there is none, in words that go on after "was not looked for: ".

    `blinds` where that is of the file's own making: a scan that finds nothing without it has not seen enough for a verdict.
    """

    why: str
    blinds: bool = False


# what the criteria before this one measured, by their names
Earlier = Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """What a criterion needs beside its own measurement to say what it found.

    Attributes:
        searched: [T], the classes that were searched for, of `classes` in all.
        tests: how many outlier tests there are, each of which pays for the others.
        looks: into how many parts the level is divided for the looks that a scan may take, of which this one has one.
    """

    levels: Levels
    searched: Tensor
    classes: int
    tests: int
    looks: int = 1

    @property
    def few(self) -> bool:
        """Whether the classes are too few to tell what is usual among them; then copies of the model tell (`control`)."""
        return len(self.searched) < MIN_CLASSES


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One way of judging.

    Attributes:
        name: by which reports call it; `asks`, its question in plain words.
        sees: the kind of backdoor that it looks for, one of `findings.KINDS`.
        power: "decides" or "suspects"; see `findings.Finding`.
        unit: what its value and limit count.
        measure: what it measures of a subject, given what the criteria before it measured; a NotDone where it cannot.
        find: what it makes of its measurement.
        work: what the measuring takes, stage by stage, where it takes any.
        compares: whether it compares classes with one another, which takes MIN_CLASSES of them.
        pixels: whether it needs the searches over pixels.
        searches: whether it searches, as much as the effort says; `reads`, whether it only reads what others measured.
        own_null: whether what it finds is compared with the model's own parts; see `findings.Finding`.
    """

    name: str
    asks: str
    sees: str
    power: str
    unit: str
    measure: Callable[[Subject, Earlier, Progress], Any]
    find: Callable[["Criterion", Any, Context], Finding]
    work: Callable[[Extent], tuple[Work, ...]] = lambda extent: ()
    compares: bool = False
    pixels: bool = False
    searches: bool = False
    reads: bool = False
    own_null: bool = False

    def finding(self, levels: Levels, **more: Any) -> Finding:
        """A finding of this criterion; whether it exceeds follows from the levels."""
        about = Finding(criterion=self.name, asks=self.asks, sees=self.sees, power=self.power, unit=self.unit, own_null=self.own_null)
        return levels.applied(replace(about, **more))

    def found(self, measured: Any, context: Context) -> Finding:
        """What it says of a measurement, or why there is none."""
        why = few(len(context.searched), context.classes) if self.compares else None
        missing = measured if isinstance(measured, NotDone) else why
        if missing is not None:
            return self.finding(context.levels, not_done=missing.why, blind=missing.why if missing.blinds else None)
        return self.find(self, measured, context)


def too_few(subject: Subject) -> NotDone | None:
    """Where so few classes are searched for that none can be told to stand out."""
    return few(len(subject.searched), subject.classes)


def few(searched: int, classes: int) -> NotDone | None:
    """The same, of so many of the model's classes."""
    if searched >= MIN_CLASSES:
        return None
    said = f"{counted(searched, 'class', 'classes')} {'is' if searched == 1 else 'are'} too few to tell an outlier among them"
    more = "; give a larger --targets" if searched < min(classes, MIN_CLASSES) else ""
    return NotDone(f"{said}; at least {MIN_CLASSES} are needed{more}")


def without_pixels(subject: Subject) -> NotDone | None:
    """Where the searches over pixels are left out."""
    return None if subject.settings.pixels else NotDone("--no-pixels leaves out the searches over pixels")


def without_gradient(subject: Subject) -> NotDone | None:
    """Where the searches over pixels by gradients are left out, or would see nothing."""
    why = without_pixels(subject)
    if why is not None or subject.astray is None:
        return why
    return NotDone(f"{subject.astray}; export the network without what does that", blinds=True)
