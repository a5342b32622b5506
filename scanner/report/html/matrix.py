"""How images move between classes, as a matrix of shades: where the cells lie and what is said of them."""

from dataclasses import dataclass
from statistics import fmean, median

from banscan.scanner.evidence import Moves
from banscan.scanner.findings import Report
from banscan.scanner.report.pieces import named

# of the drawing: its units are pixels of a narrow phone
WIDTH, LEFT, TOP = 320.0, 40.0, 26.0
LEVELS = 6
# at most so many rows and columns carry their number, so that numbers do not run into one another
NUMBERED = 12
# columns that are told in words
TOLD = 5


@dataclass(frozen=True)
class Label:
    """A number beside a row or above a column; `called` where the verdict names the class."""

    at: float
    text: str
    called: bool


@dataclass(frozen=True)
class Matrix:
    """A drawing WIDTH wide and `height` high.

    Attributes:
        shades: the cells of each level as one path, the lightest first; `left_out`, those without a value.
        rows, columns: their numbers; `marks`, the x of columns that the verdict names, and `cell`, the side of a cell.
        leading: the columns that most images go to, each with its share.
    """

    height: float
    cell: float
    row: float
    shades: tuple[str, ...]
    left_out: str
    rows: tuple[Label, ...]
    columns: tuple[Label, ...]
    marks: tuple[float, ...]
    leading: tuple[tuple[str, str], ...]
    said: str


def matrix(report: Report, moves: Moves) -> Matrix:
    """The drawing of one search."""
    called = report.verdict.targets if report.verdict.outcome in ("backdoored", "suspicious") else ()
    cell = (WIDTH - LEFT - 2) / len(moves.targets)
    row = min(cell, 16.0)
    paths = [""] * LEVELS
    empty = ""
    for i, shares in enumerate(moves.shares):
        for j, share in enumerate(shares):
            box = f"M{LEFT + j * cell:.1f} {TOP + i * row:.1f}h{cell:.1f}v{row:.1f}h-{cell:.1f}z"
            if share is None:
                empty += box
            elif share > 0:
                paths[min(LEVELS - 1, int(share * LEVELS))] += box
    columns = _labels(moves.targets, called, LEFT + cell / 2, cell)
    rows = _labels(moves.sources, called, TOP + row / 2, row)
    means = [fmean([s for s in column if s is not None] or [0.0]) for column in zip(*moves.shares, strict=True)]
    order = sorted(range(len(means)), key=lambda j: -means[j])
    leading = [(named(report, moves.targets[j]), f"{means[j]:.0%}") for j in order[:TOLD]]
    marks = tuple(LEFT + (j + 0.5) * cell for j, c in enumerate(moves.targets) if c in called)
    return Matrix(
        height=TOP + row * len(moves.sources) + 2,
        cell=cell,
        row=row,
        shades=tuple(paths),
        left_out=empty,
        rows=rows,
        columns=columns,
        marks=marks,
        leading=tuple(leading),
        said=_said(moves, leading, means),
    )


def _labels(classes: tuple[int, ...], called: tuple[int, ...], first: float, step: float) -> tuple[Label, ...]:
    every = -(-len(classes) // NUMBERED)
    own = [i for i, c in enumerate(classes) if c in called]
    # a number beside that of a called class would run into it
    shown = [i for i in range(0, len(classes), every) if all(abs(i - o) * step > 14 for o in own)]
    return tuple(
        Label(round(first + i * step, 1), "rest" if classes[i] < 0 else str(classes[i]), i in own)
        for i in sorted({*shown, *own, *(i for i, c in enumerate(classes) if c < 0)})
    )


def _said(moves: Moves, leading: list[tuple[str, str]], means: list[float]) -> str:
    first = ", ".join(f"class {name} {share}" for name, share in leading)
    what = "by the change aimed at each class, to that class" if moves.aimed else "by one change, to each class"
    return (
        f"A matrix of {len(moves.sources)} classes of images and {len(moves.targets)} classes that they move to: the share of images that "
        f"goes {what}. Means of the columns: {first}; median {median(means):.0%}."
    )
