"""All outlier tests together: a class that leads everywhere, nowhere clearly."""

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone, too_few
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.findings import DECIDES, DEVIATIONS, ONE, Finding
from banscan.scanner.machine.progress import Progress
from banscan.scanner.subject import Subject

SENTENCE = "class {c} is singled out by all tests together"


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> ClassValues | NotDone:
    """The sum of the others' values, each standardised over the classes."""
    return too_few(subject) or together([values for values in earlier.values() if isinstance(values, ClassValues)])


def together(values: list[ClassValues]) -> ClassValues:
    """The measurement from those of the other outlier tests."""
    rows = outlier.joined(values)
    return ClassValues(rows, 0.0, rows[0], ".1f")


def find(criterion: Criterion, measured: ClassValues, context: Context) -> Finding:
    """An outlier test with half of the level."""
    return outlier.as_finding(criterion, measured, outlier.test(measured, context, outlier.parts(context, joint=True)), context, SENTENCE)


JOINT = Criterion(
    name="joint",
    asks="Do all the tests above together single one class out?",
    sees=ONE,
    power=DECIDES,
    unit=DEVIATIONS,
    measure=measure,
    find=find,
    compares=True,
)
