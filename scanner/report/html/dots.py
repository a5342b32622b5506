"""The classes of one criterion as dots on a line, with its limit: where the dots lie and what is said of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, stdev

from banscan.scanner.findings import DEVIATIONS, SHARE, Finding, Report
from banscan.scanner.report.pieces import named, number

# of the drawing: its units are pixels of a narrow phone
WIDTH, MARGIN, RADIUS = 320.0, 10.0, 2.6
# rows of dots above one another, and where the lowest is
ROWS, BASE = 7, 50.0
# room beyond the outermost dot, as a share of the axis
ROOM = 0.04
# classes in front that are marked
MARKED = 3


@dataclass(frozen=True)
class Dot:
    """A class: where it lies, and whether the finding names it."""

    x: float
    y: float
    front: bool
    label: str


@dataclass(frozen=True)
class Tick:
    """A number under the axis."""

    x: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Dots:
    """A drawing WIDTH wide.

    Attributes:
        limit: where its line is; None where nothing is compared with one.
        spread: from where to where the restarts lie.
        said: the drawing in words.
    """

    dots: tuple[Dot, ...]
    ticks: tuple[Tick, ...]
    limit: float | None
    limit_text: str
    limit_anchor: str
    spread: tuple[float, float] | None
    said: str


def dots(report: Report, finding: Finding) -> Dots | None:
    """The drawing of a finding; None where nothing was measured."""
    if finding.value is None or finding.not_done is not None:
        return None
    values = dict(places(report, finding))
    front = finding.classes[:MARKED]
    alone = values or {-1: finding.value}
    ends = [*alone.values(), *(v for v in (finding.limit, *finding.restarts) if v is not None)]
    low, high = (0.0, 1.0) if finding.unit == SHARE else (min(ends), max(ends))
    room = ROOM * (high - low) or 1.0
    low, high = (low, high) if finding.unit == SHARE else (low - room, high + room)

    def at(value: float) -> float:
        return round(MARGIN + (min(max(value, low), high) - low) / (high - low) * (WIDTH - 2 * MARGIN), 1)

    drawn = tuple(
        Dot(x, y, c in front or c == -1, named(report, c) if c in front else "")
        for c, x, y in _stacked({c: at(v) for c, v in alone.items()}, front)
    )
    ticks = tuple(
        Tick(at(v), number(finding, v), anchor)
        for v, anchor in ((low + (finding.unit != SHARE) * room, "start"), (high - (finding.unit != SHARE) * room, "end"))
    )
    limit = None if finding.limit is None else at(finding.limit)
    spread = (at(min(finding.restarts)), at(max(finding.restarts))) if finding.restarts else None
    told = "" if finding.limit is None else f"limit {number(finding, finding.limit)}"
    return Dots(drawn, ticks, limit, told, "end" if (limit or 0) > WIDTH / 2 else "start", spread, said(report, finding, values))


def places(report: Report, finding: Finding) -> Iterator[tuple[int, float]]:
    """Every class with its value in the unit of the finding's limit.

    Of a test the values are brought to the scale of its statistic: in standard deviations from the classes that do not stand out, so that
    the class that the statistic is about lies at the finding's value.
    """
    if len(finding.values) != len(report.searched) or not all(map(isfinite, finding.values)):
        return
    pairs = list(zip(report.searched, finding.values, strict=True))
    if finding.unit != DEVIATIONS or not finding.classes or finding.value is None:
        yield from pairs
        return
    among = report.drawn or report.searched
    rest = [v for c, v in pairs if c in among and c not in finding.classes]
    own = dict(pairs)[finding.classes[-1]]
    middle = fmean(rest) if rest else own
    # the spread that the test took, which is no smaller than what counting images leaves
    width = (own - middle) / finding.value if finding.value > 0 and own > middle else stdev(rest) if len(rest) > 1 else 0.0
    yield from ((c, (v - middle) / (width or 1.0)) for c, v in pairs)


def said(report: Report, finding: Finding, values: dict[int, float]) -> str:
    """The drawing in words."""
    unit = "" if finding.unit == SHARE else " standard deviations"
    value = number(finding, finding.value or 0.0)
    limit = "" if finding.limit is None else f" The limit is {number(finding, finding.limit)}{unit}."
    beyond = "" if finding.limit is None else ", beyond the limit" if (finding.value or 0.0) >= finding.limit else ", below the limit"
    lead = f"class {named(report, finding.classes[0])}" if finding.classes else "what was measured"
    if not values:
        return f"One value on a line: {lead} at {value}{unit}{beyond}.{limit}"
    order = sorted(values.values())
    spread = f"from {number(finding, order[0])} to {number(finding, order[-1])}{unit}"
    return f"{len(order)} classes as dots, {spread}, in front {lead}; its value is {value}{beyond}.{limit}"


def _stacked(xs: dict[int, float], front: tuple[int, ...]) -> Iterator[tuple[int, float, float]]:
    """Dots that do not cover one another, as far as there are rows; the classes in front come last, above the others."""
    ends = [float("-inf")] * ROWS
    placed = []
    for c, x in sorted(xs.items(), key=lambda pair: pair[1]):
        row = next((i for i, end in enumerate(ends) if x - end >= 2 * RADIUS), min(range(ROWS), key=lambda i: ends[i]))
        ends[row] = x
        placed.append((c, x, BASE - RADIUS - 1 - row * 2 * RADIUS))
    yield from sorted(placed, key=lambda p: front[::-1].index(p[0]) if p[0] in front else -1)
