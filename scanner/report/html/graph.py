"""A node of a network and its neighbours as boxes from the image down to the answer."""

from dataclasses import dataclass
from itertools import pairwise

from banscan.importers.structure.finding import Logic, Structure
from banscan.scanner.evidence import Switch
from banscan.scanner.findings import Report
from banscan.scanner.report.pieces import named
from banscan.text import counted, plain

# of the drawing: its units are pixels of a narrow phone
WIDTH, HEIGHT, GAP, SIDE = 320.0, 34.0, 26.0, 6.0
# a character of its text is about this wide
CHARACTER = 5.4
# neurons that are listed by number
LISTED = 4


@dataclass(frozen=True)
class Box:
    """A box with one or two lines of text; `marked` where it is what was found."""

    text: tuple[str, ...]
    marked: bool = False
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Graph:
    """A drawing WIDTH wide; `lines` lead from box to box: x, y, x, y."""

    height: float
    boxes: tuple[Box, ...]
    lines: tuple[tuple[float, float, float, float], ...]
    said: str


def of_switch(report: Report, switch: Switch) -> Graph:
    """Dormant neurons between what they are made from and what reads them."""
    numbers = ", ".join(map(str, switch.neurons[:LISTED])) + (", …" if len(switch.neurons) > LISTED else "")
    one = "neuron" if len(switch.neurons) == 1 else "neurons"
    node = Box((switch.node, f"{one} {numbers} of {switch.channels} ({switch.operator})"), True)
    target = Box((f"class {named(report, switch.target)}", f"{switch.moved:.0%} of the images, once forced on"), True)
    levels = [_row(switch.before), [node], _row(switch.after), [target]]
    made = f"{one} {numbers} of {switch.node}, made from {_listed(switch.before)}, read by {_listed(switch.after)}"
    led = f"forced on, {switch.moved:.0%} of the images go to class {named(report, switch.target)}"
    return _laid([level for level in levels if level], f"{made}; {led}")


def of_place(report: Report, structure: Structure, place: Logic) -> Graph:
    """What decides by the pixels, beside the network."""
    ways = "" if structure.shortest is None else f"{structure.shortest} to {structure.longest} with weights"
    network = Box(("the network", ways) if ways else ("the network",))
    weights = f"{place.before} before, {place.after} behind"
    node = Box((f"{place.operator}: {place.tensor}", weights), True)
    answer = "the answer"
    if place.target is not None and place.moved is not None:
        answer = f"class {named(report, place.target)}: {place.moved:.0%} of the images"
    state = "" if place.state is None else f" set to {place.state}"
    said = f"Beside the network, {place.operator} {place.tensor} decides by the pixels;{state} it leads to {answer}; {weights} with weights"
    return _laid([[Box(("the pixels",))], [network, node], [Box((answer,), place.target is not None)]], said)


def _row(names: tuple[str, ...]) -> list[Box]:
    return [Box((name,)) for name in names]


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names) or counted(0, "node")


def _laid(levels: list[list[Box]], said: str) -> Graph:
    """The boxes of every level side by side, joined with all of the next level."""
    rows: list[list[Box]] = []
    for i, level in enumerate(levels):
        width = (WIDTH - SIDE * (len(level) + 1)) / len(level)
        most = int((width - 2 * SIDE) / CHARACTER)
        y = 2 + i * (HEIGHT + GAP)
        rows.append(
            [
                Box(tuple(plain(t, most) for t in box.text), box.marked, round(SIDE + j * (width + SIDE), 1), y, round(width, 1))
                for j, box in enumerate(level)
            ]
        )
    lines = [(round(a.middle, 1), a.y + HEIGHT, round(b.middle, 1), b.y) for above, below in pairwise(rows) for a in above for b in below]
    return Graph(len(rows) * (HEIGHT + GAP) - GAP + 4, tuple(box for row in rows for box in row), tuple(lines), said)
