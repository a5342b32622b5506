"""Raised logits on clean images: many attacks leave a trace of the target class on everything, without any trigger."""

from torch import Tensor

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone, too_few
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.findings import DECIDES, DEVIATIONS, ONE, Finding
from banscan.scanner.machine.progress import Progress
from banscan.scanner.subject import Subject, foreign_logits

SENTENCE = "images of other classes give class {c} a mean logit of {seen}"


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> ClassValues | NotDone:
    """Mean logit of every class over the clean images of other classes."""
    return too_few(subject) or raised(foreign_logits(subject.logits, subject.labels)[subject.searched], subject.drawn)


def raised(logits: Tensor, drawn: Tensor | None = None) -> ClassValues:
    """The measurement from mean logits [T]; `drawn` as in `ClassValues`."""
    rows = logits[None].double()
    return ClassValues(rows, outlier.unsteady(rows), logits, ".1f", drawn)


def find(criterion: Criterion, measured: ClassValues, context: Context) -> Finding:
    """An outlier test."""
    return outlier.find(criterion, measured, context, SENTENCE)


LOGIT = Criterion(
    name="logit",
    asks="Do clean images of other classes have a raised logit for one class?",
    sees=ONE,
    power=DECIDES,
    unit=DEVIATIONS,
    measure=measure,
    find=find,
    compares=True,
)
