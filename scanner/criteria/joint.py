"""All outlier tests together: a class that leads in several, in none of them clearly enough."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from scipy.special import chdtrc, ndtri, stdtr
from torch import Tensor

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone, too_few
from banscan.scanner.criteria.margin import MARGIN
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.criteria.spread import Spread
from banscan.scanner.findings import DECIDES, DEVIATIONS, ONE, Finding
from banscan.scanner.machine.progress import Progress
from banscan.scanner.subject import Subject

SENTENCE = "class {c} is singled out by all tests together"
# below the levels
CALM = "class {c} is in front in all tests together, no further than chance explains"
# smaller and larger probabilities have no normal deviate that float64 could tell apart
SMALLEST, LARGEST = 1e-300, 1 - 1e-15
# the spread of deviates over classes is 1 for tests that are independent, and larger for those that are not; much smaller only where
# nothing is moved to any class
NARROWEST = 0.7


@dataclass(frozen=True, kw_only=True)
class Together(ClassValues):
    """What all tests show of each class.

    Attributes:
        tests: [n, T], float64, a row for each of the other tests.
        leasts: [n, 1], the spread of each that is the smallest; `known`, what is known of it, [n, 1] as well.
        deciding: [n], whether a test may call a model backdoored by itself.
    """

    tests: Tensor
    leasts: Tensor
    known: Spread
    deciding: Tensor


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> Together | NotDone:
    """How far each class stands out in all the others."""
    return too_few(subject) or together({name: v for name, v in earlier.items() if isinstance(v, ClassValues) and v.blind is None})


def together(values: Mapping[str, ClassValues]) -> Together:
    """The measurement from those of the other outlier tests, by their names."""
    tests = torch.stack([v.rows.mean(0).double() for v in values.values()])
    drawn = next((v.drawn for v in values.values()), None)
    leasts = _column(v.least for v in values.values())
    deciding = torch.tensor([name != MARGIN.name for name in values])
    known = Spread(_column(v.spread.freedom for v in values.values()), _column(v.spread.deviation for v in values.values()))
    shown = agreement(tests, leasts, known, deciding, drawn)
    return Together(shown[None], NARROWEST, shown, ".1f", drawn, tests=tests, leasts=leasts, known=known, deciding=deciding)


def _column(values: Iterable[float | Tensor]) -> Tensor:
    return torch.tensor([[float(v)] for v in values], dtype=torch.float64)


def agreement(tests: Tensor, leasts: Tensor, known: Spread, deciding: Tensor, drawn: Tensor | None = None) -> Tensor:
    """How far each class stands out in all tests, as a normal deviate [T] (Fisher 1932).

    Each test's outlier statistic has a p-value p_i; -2 sum(log p_i) is chi-squared with two degrees of freedom for each test if these are
    independent. Two tests that agree weigh more by it than five that all lean a little. That tests depend on one another widens the spread
    of the deviates over the classes, which is what they are compared with. A test that must not decide by itself counts no further than
    the strongest of those that may.

    Args:
        tests: [n, T], a row of values for every test.
        leasts: [n, 1], the smallest spread of each; `known`, what is known of it.
        deciding: [n], which of them may decide by themselves.
        drawn: [T], the classes that each is compared with; None for all.
    """
    residuals = outlier.outlier(tests, leasts, drawn, known).numpy()
    count = tests.shape[1] if drawn is None else int(drawn.sum())
    each = torch.from_numpy(stdtr(count - 2 + torch.as_tensor(known.freedom).numpy(), -residuals)).clamp(min=SMALLEST)
    each = torch.where(deciding[:, None], each, each.maximum(each[deciding].amin(0)))
    upper = torch.from_numpy(chdtrc(2 * len(tests), -2 * each.log().sum(0).numpy()))
    return deviate(upper)


def deviate(p: Tensor) -> Tensor:
    """The standard normal values that are exceeded with these probabilities."""
    return -torch.from_numpy(ndtri(p.clamp(SMALLEST, LARGEST).numpy()))


def find(criterion: Criterion, measured: Together, context: Context) -> Finding:
    """An outlier test with half of the level."""
    tested = outlier.as_tested(measured, *standing_out(measured, context.classes, outlier.parts(context, joint=True)), context, joint=True)
    found = outlier.as_finding(criterion, measured, tested, context, SENTENCE)
    return found if found.exceeds or found.suspects else outlier.as_finding(criterion, measured, tested, context, CALM)


def standing_out(measured: Together, classes: int, parts: int) -> tuple[tuple[int, ...], float, float]:
    """What `outlier.together` says of these; without the classes that stand out further, every test is compared anew."""
    tests, leasts, known, deciding, drawn = measured.tests, measured.leasts, measured.known, measured.deciding, measured.drawn

    def values(places: Tensor) -> Tensor:
        return agreement(tests[:, places], leasts, known, deciding, None if drawn is None else drawn[places])

    return outlier.together(values, tests.shape[1], classes, parts, NARROWEST, drawn)


JOINT = Criterion(
    name="joint",
    asks="Do all the tests above together single one class out?",
    sees=ONE,
    power=DECIDES,
    unit=DEVIATIONS,
    measure=measure,
    find=find,
    reads=True,
    compares=True,
)
