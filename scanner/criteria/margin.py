"""The largest margin that any image gives a class (Wang et al., "MM-BD", IEEE S&P 2024)."""

from torch import Tensor

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone, too_few, without_gradient
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.extent import Extent
from banscan.scanner.findings import DEVIATIONS, ONE, SUSPECTS, Finding
from banscan.scanner.inputs import checks
from banscan.scanner.machine.forecast import GRADIENT, Work, counter
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search.margin import largest_margins
from banscan.scanner.subject import Subject

SENTENCE = "images can be made that the model takes for class {c} by a margin of {seen}"


def work(extent: Extent) -> tuple[Work, ...]:
    """The ascent."""
    budget = extent.effort.margins
    return (Work("searching for the largest margins", GRADIENT, budget.starts * budget.steps * extent.searched),)


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> ClassValues | NotDone:
    """Gradient ascent from several clean images for every class."""
    why = too_few(subject) or without_gradient(subject)
    if why is not None:
        return why
    budget = subject.effort.margins
    (search,) = work(subject.extent)
    count = counter(progress, search)
    model, seed = subject.pixel_model, subject.settings.seed
    largest = largest_margins(model, subject.pixels, subject.searched, starts=budget.starts, steps=budget.steps, seed=seed, progress=count)
    checks.check_finite(largest)
    return reached(largest, subject.drawn)


def reached(largest: Tensor, drawn: Tensor | None = None) -> ClassValues:
    """The measurement from margins [K, T]; the root evens out a spread that grows with the margin. `drawn` as in `ClassValues`."""
    rows = largest.double().clamp(min=0).sqrt()
    return ClassValues(rows, outlier.unsteady(rows), largest.mean(0), ".1f", drawn)


def find(criterion: Criterion, measured: ClassValues, context: Context) -> Finding:
    """An outlier test."""
    return outlier.find(criterion, measured, context, SENTENCE)


# a class that images can be pushed to furthest is often one that everything likes: alone, this says no more than "suspicious"
MARGIN = Criterion(
    name="margin",
    asks="Do some images make the model surer of one class?",
    sees=ONE,
    power=SUSPECTS,
    unit=DEVIATIONS,
    measure=measure,
    find=find,
    work=work,
    searches=True,
    compares=True,
    pixels=True,
)
