"""Does one class stand out among the others? The test behind most criteria, whose false-positive rate follows from the number of classes.

No threshold here was fitted to tell models apart: the classes of one model are each other's reference. On a clean model every statistic is
spread over the classes about normally, about as far as in other clean models (`spread`); a backdoor makes one class stand out. Which
statistic shows it depends on the attack, so there are several, and the p-value pays for their number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.special import stdtr, stdtrit
from torch import Tensor

from banscan.scanner.criteria.base import Context, Criterion
from banscan.scanner.criteria.spread import UNKNOWN, Spread
from banscan.scanner.findings import Finding
from banscan.scanner.levels import BACKDOORED, SUSPICIOUS
from banscan.scanner.search.changes import Found

# a share this small or large is as good as none or all: one image of those that a scan takes
SMALLEST = 0.002
# values of which the largest is so many times larger than what they differ by are alike: numbers have no more digits than that
ALIKE = 1e-3
# several targets hide one another: up to one class in so many may stand out together
TOGETHER = 4


@dataclass(frozen=True)
class ClassValues:
    """What an outlier test compares.

    Attributes:
        rows: [K, T], float64, a row per restart, a column per class that is searched for.
        least: the spread that counting images leaves between equal classes; the values' own is taken for no smaller.
        shown: [T], what a reader is told of each class, and `form`, the format of these numbers.
        drawn: [T], which of them were drawn at random and stand for all classes of the model; None where all of them do. Classes that were
            searched for since something spoke against them are compared with these and are no part of what others are compared with.
        spread: what other clean models show of that of the values.
        found: the changes of pixels that were measured, where it was changes; they decide nothing.
    """

    rows: Tensor
    least: float
    shown: Tensor
    form: str = ".0%"
    drawn: Tensor | None = None
    spread: Spread = UNKNOWN
    found: Found | None = field(default=None, repr=False, compare=False)

    def seen(self, place: int) -> str:
        """What is told of the class at this place among those searched for, beside the median one."""
        return f"{self.shown[place]:{self.form}}, against {self.middle:{self.form}} for the median class"

    @property
    def blind(self) -> str | None:
        """Why the values cannot tell the classes apart; None where they can."""
        return None

    @property
    def middle(self) -> float:
        """What a reader is told of the median class."""
        return float(among(self.shown, self.drawn).median())

    @property
    def count(self) -> int:
        """How many classes the others are compared with."""
        return self.rows.shape[1] if self.drawn is None else int(self.drawn.sum())


@dataclass(frozen=True)
class Tested:
    """One outlier test.

    Attributes:
        classes: those that stand out most, the first one first.
        statistic: of the last of them, of the mean over restarts; `restarts`, in every one, where there are several.
        p_value: Bonferroni's bound over the classes and the tests, of whose level the joint test has half.
        threshold: the statistic at which `p_value` reaches the level.
        steady: whether the same classes lead in every restart.
    """

    classes: tuple[int, ...]
    statistic: float
    restarts: tuple[float, ...]
    p_value: float
    threshold: float
    steady: bool


def find(criterion: Criterion, measured: ClassValues, context: Context, sentence: str) -> Finding:
    """The finding of an outlier test; `sentence` has places for the class ({c}) and for its number beside that of the median ({seen})."""
    return as_finding(criterion, measured, test(measured, context), context, sentence)


def as_finding(criterion: Criterion, measured: ClassValues, tested: Tested, context: Context, sentence: str) -> Finding:
    """A test as a finding; one that is blind has no score."""
    first, *others = tested.classes
    place = int((context.searched == first).nonzero()[0, 0])
    said = sentence.format(c=first, seen=measured.seen(place))
    if others:
        also = ", ".join(map(str, others))
        said += f"; {f'class {also} stands' if len(others) == 1 else f'classes {also} stand'} out as well"
    return criterion.finding(
        context.levels,
        classes=tested.classes,
        value=tested.statistic,
        limit=tested.threshold,
        restarts=tested.restarts,
        steady=tested.steady,
        p_value=tested.p_value,
        score=score(tested.p_value) if tested.steady and measured.blind is None else 0.0,
        sentence=said,
        values=tuple(measured.rows.mean(0).tolist()),
        blind=measured.blind,
        partly=_left(measured, context),
    )


def _left(measured: ClassValues, context: Context) -> str | None:
    """Which classes were not searched for."""
    left = context.classes - len(context.searched)
    if left == 0:
        return None
    said = f"{left} of the {context.classes} classes were not searched for as targets"
    if measured.drawn is None:
        return f"{said} (--targets)"
    ahead = len(context.searched) - measured.count
    return f"{said}: a short look put none of them among the {ahead} in front, which were compared with {measured.count} drawn at random"


def parts(context: Context, *, joint: bool) -> int:
    """Into how many parts Bonferroni divides the level: half is for the one test that sees everything, the others share the rest.

    The look that measured has its part of all that.
    """
    return context.looks * (2 if joint else 2 * context.tests)


def test(measured: ClassValues, context: Context) -> Tested:
    """The test of the classes searched for among all of the model's."""
    rows, least, drawn, spread = measured.rows, measured.least, measured.drawn, measured.spread
    mean = rows.mean(0)
    places, statistic, p = together(mean.__getitem__, len(mean), context.classes, parts(context, joint=False), least, drawn, spread)
    kept = [places[-1], *(c for c in range(len(mean)) if c not in places)]
    each = outlier(rows[:, kept], least, None if drawn is None else drawn[kept], spread)[:, 0].tolist()
    steady = bool((rows.topk(len(places)).indices.sort(1).values == torch.tensor(sorted(places))).all())
    return as_tested(measured, places, statistic, p, context, joint=False, restarts=tuple(each) if len(each) > 1 else (), steady=steady)


def as_tested(
    measured: ClassValues,
    places: tuple[int, ...],
    statistic: float,
    p: float,
    context: Context,
    *,
    joint: bool,
    restarts: tuple[float, ...] = (),
    steady: bool = True,
) -> Tested:
    """What `together` says of places among the classes searched for, beside the statistic that would be enough."""
    before = len(places) - 1
    gone = before if measured.drawn is None else int(measured.drawn[list(places[:before])].sum())
    among_them, classes = measured.count - gone, parts(context, joint=joint) * (context.classes - before)
    threshold = outlier_threshold(context.levels.p_value, among_them, classes, measured.spread)
    return Tested(tuple(context.searched[list(places)].tolist()), statistic, restarts, p, threshold, steady)


def together(
    values: Callable[[Tensor], Tensor],
    total: int,
    classes: int,
    parts: int,
    least: float = 0.0,
    drawn: Tensor | None = None,
    spread: Spread = UNKNOWN,
) -> tuple[tuple[int, ...], float, float]:
    """Which of the classes stand out together; the outlier statistic of the last of these, and its p-value.

    Outliers hide one another: each widens the spread that the others are measured by. So the largest is compared with all the others, the
    second with those below it, and so on (the generalised test of Rosner 1983), and what stands out at a later step counts if it is
    suspicious. The level needs no payment for the steps: a second value seldom stands out by chance where the first does not.

    Args:
        values: the values [n] of the classes at these places [n], of `total` places.
        classes: how many classes there are, searched for or not.
        parts: into how many parts the level is divided.
        least: the spread that is the smallest; `spread`, what is known of it.
        drawn: [total], the classes that all are compared with; None for all of them. It does not matter by what the others were chosen:
            each is an outlier among classes drawn at random with the probability that it would have had anyway, and that is paid for as
            often as there are classes.
    """
    left = torch.arange(total)
    gone: list[int] = []
    steps: list[tuple[float, float, int]] = []
    count = total if drawn is None else int(drawn.sum())
    for step in range(max(1, count // TOGETHER)):
        own, others = values(left), None if drawn is None else drawn[left]
        first = int(own.argmax())
        statistic = float(outlier(own, least, others, spread)[first])
        among_them = len(left) if others is None else int(others.sum())
        steps.append((outlier_p(statistic, among_them, parts * (classes - step), spread), -statistic, step + 1))
        gone.append(int(left[first]))
        left = torch.cat([left[:first], left[first + 1 :]])
    alone, *further = steps
    p, negative, count = min([alone, *(s for s in further if s[0] <= SUSPICIOUS)])
    return tuple(gone[:count]), -negative, p


def score(p: float) -> float:
    """1 where the p-value reaches the level of a backdoor, growing with its logarithm."""
    return math.log(max(p, 1e-300)) / math.log(BACKDOORED)


def among(values: Tensor, drawn: Tensor | None) -> Tensor:
    """Those of values [..., T] that stand for all classes; see `ClassValues.drawn`."""
    return values if drawn is None else values[..., drawn]


def outlier(values: Tensor, least: float | Tensor = 0.0, drawn: Tensor | None = None, spread: Spread = UNKNOWN) -> Tensor:
    """The deleted studentised residual of each value among the others on the last axis (the outlier test of Grubbs 1950).

    t_i = (v_i - mean of the others) / (standard deviation of the others * sqrt(1 + 1 / (n - 1))): Student's t with n - 2 degrees of freedom
    for normal values, and with as many more as `spread` is worth, whose variance is then the mean of both, weighted by these (the moderated
    t of Smyth, 2004). The standard deviation is at least `least`, a number or one for every row. Of the others only those count that are
    `drawn` [n]; all of them for None.
    """
    values = values.double()
    counted = torch.ones(values.shape[-1], dtype=torch.float64) if drawn is None else drawn.double()
    own = values * counted
    others = counted.sum() - counted
    rest = (own.sum(-1, keepdim=True) - own) / others
    total = own.square().sum(-1, keepdim=True) - own.square()
    smallest = torch.as_tensor(least, dtype=torch.float64).square().clamp(min=1e-300)
    known = torch.as_tensor(spread.freedom, dtype=torch.float64)
    before = known * torch.as_tensor(spread.deviation, dtype=torch.float64).square()
    variance = ((total - others * rest.square() + before) / (others - 1 + known)).maximum(smallest)
    return (values - rest) / (variance * (1 + 1 / others)).sqrt()


def outlier_p(statistic: float, count: int, classes: int, spread: Spread = UNKNOWN) -> float:
    """Probability that one of `classes` normal values, compared with `count` of them, is this much of an outlier (Bonferroni's bound).

    One that is not among the `count` itself has a degree of freedom more, which is not used.
    """
    return min(1.0, classes * float(stdtr(count - 2 + spread.freedom, -statistic)))


def outlier_threshold(p: float, count: int, classes: int, spread: Spread = UNKNOWN) -> float:
    """The statistic whose `outlier_p` is p."""
    return -float(stdtrit(count - 2 + spread.freedom, p / classes))


def log_odds(share: Tensor) -> Tensor:
    """The logarithm of share / (1 - share), where differences between classes spread evenly; held away from 0 and 1."""
    return share.double().clamp(SMALLEST, 1 - SMALLEST).logit()


def finest(values: Tensor) -> float:
    """The spread of log-odds of shares [T] that counting images leaves between equal classes.

    A share q of 1 / SMALLEST images has a binomial standard deviation of sqrt(SMALLEST q (1 - q)), its log-odds one of this over q (1 - q).
    """
    middle = float(values.double().median().sigmoid())
    return math.sqrt(SMALLEST / (middle * (1 - middle)))


def unsteady(values: Tensor) -> float:
    """The spread that the number format leaves between equal classes, for values [K, T] that are no shares."""
    return ALIKE * float(values.abs().max())


def of_shares(shares: Tensor, shown: Tensor, drawn: Tensor | None = None, spread: Spread = UNKNOWN) -> ClassValues:
    """Shares [K, T] as log-odds, with what a reader is told of each class [T]; `drawn` and `spread` as in `ClassValues`."""
    rows = log_odds(shares)
    return ClassValues(rows, finest(among(rows.mean(0), drawn)), shown, drawn=drawn, spread=spread)
