"""A tensor that is the same for all clean images, set to another state: does the network still see the images?"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from banscan.importers.structure.bounds import ANY, Interval
from banscan.importers.structure.finding import IDLE, PROVED, SUSPICIOUS, Logic
from banscan.importers.structure.flow import Flow
from banscan.importers.structure.graph import Graph, Session
from banscan.importers.structure.guards import against_nothing, between_scales
from banscan.importers.structure.states import State, living, states
from banscan.importers.structure.trunk import trunk

# share of the images of other classes that has to go to one class, and how many images there have to be of them
COLLAPSE, LEAST = 0.9, 3
# outcomes, the gravest first
ORDER = (PROVED, SUSPICIOUS, IDLE)
# share of the images that get another answer, from which a decision is suspicious
MANY = 0.5
# what is shown to the network differs less than this share between images where they are no longer shown to it
SAME = 1e-3
# images that the network's input is looked at on
FEW = 8


@dataclass(frozen=True)
class Moved:
    """What setting a tensor does: the class that most of the other images go to, their share, and the share of answers that change.

    `tied` where all scores of an answer are the same: that the first class is taken then is no answer.
    """

    target: int
    moved: float
    changed: float
    tied: bool = False


@dataclass(frozen=True)
class Clean:
    """A graph on clean images [N, ...]: what of it is constant and holds what, the single numbers that differ, and its classes [N]."""

    graph: Graph
    flow: Flow
    images: np.ndarray
    constant: set[str]
    values: dict[str, np.ndarray]
    living: dict[str, np.ndarray]
    bounds: dict[str, Interval]
    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    classes: np.ndarray

    @property
    def batch(self) -> int:
        return self.graph.images.batch or 1

    def example(self, name: str) -> np.ndarray:
        """What a tensor holds for a clean image."""
        value: np.ndarray = self.values[name] if name in self.values else self.living[name][0]
        return value


def candidates(clean: Clean) -> list[str]:
    """Tensors that may be a switch, the last first.

    Constant ones of one number, those that pass the network by, and all that say yes or no. None that spreads a smaller constant tensor
    out: it cannot have any values but multiples of what is spread. Of those that differ between images, one number that says yes or no,
    or that passes the network by.
    """
    found = []
    for step in clean.flow.steps:
        small = min((clean.values[i].size for i in step.reads if i in clean.values), default=None)
        for made in step.makes:
            value = clean.values.get(made)
            if made in clean.living and (clean.living[made].dtype == np.bool_ or clean.flow.beside(made)):
                found.append(made)
            if value is None or (small is not None and value.size > small) or step.node.op_type == "DynamicQuantizeLinear":
                continue
            if value.dtype == np.bool_ or value.size == clean.batch or clean.flow.beside(made):
                found.append(made)
    return found[::-1]


def forced(clean: Clean, places: dict[str, Logic], until: float) -> tuple[dict[str, Logic], bool]:
    """Sets candidates, one after another; what each did, and whether all could be tried until then (`time.process_time`)."""
    results: dict[str, Logic] = {}
    settled: set[str] = set()
    for name in candidates(clean):
        if name in settled:
            continue
        if time.process_time() > until:
            return results, False
        results[name] = _tried(clean, name, places[name])
        if results[name].outcome == PROVED:
            settled |= _before(clean, name)
    return results, True


def _before(clean: Clean, name: str) -> set[str]:
    """The constant tensors and single numbers that one is made from."""
    found, open_ = set[str](), [name]
    while open_:
        step = clean.flow.maker.get(open_.pop())
        new = [i for i in (step.reads if step else ()) if (i in clean.values or i in clean.living) and i not in found]
        found.update(new)
        open_ += new
    return found


def _tried(clean: Clean, name: str, place: Logic) -> Logic:
    beside, within = clean.flow.beside(name), clean.bounds.get(name, ANY)
    value = clean.example(name)
    found = replace(place, constant=name in clean.values)
    options = list(
        states(value, clean.batch, within, clean.parts.get(name), beside=beside) if found.constant else living(clean.living[name], within)
    )
    if not options:
        return found
    session = Session(clean.graph, [clean.graph.output], {name: value})
    found = replace(found, outcome=IDLE, moved=0.0, changed=0.0)
    for state in options:
        moved = _moved(clean, session, name, state)
        if moved is None or (moved.changed < (found.changed or 0.0) and moved.moved < COLLAPSE):
            continue
        outcome = _judged(clean, name, state, moved, beside)
        if ORDER.index(outcome) > ORDER.index(found.outcome):
            continue
        found = replace(found, outcome=outcome, state=state.told, target=moved.target, moved=moved.moved, changed=moved.changed)
        if outcome == PROVED:
            break
    return found


def _judged(clean: Clean, name: str, state: State, moved: Moved, beside: bool) -> str:
    """What it means that a state moves images so."""
    value, example = state.values[0], clean.example(name)
    decides = example.dtype == np.bool_ and example.size == clean.batch
    collapses = moved.moved >= COLLAPSE and (beside or _takes_away(clean, name, value))
    # numbers that are set far from their own level change any network that they are part of
    if not collapses and not (decides and moved.changed >= MANY):
        return IDLE
    root = trunk(clean.flow, clean.graph.images.name, name)
    scored = root in clean.flow.depends and not clean.flow.ahead[root]
    if _guards(clean, name, value, root) or (decides and not collapses and _scales(clean, name, value)) or (scored and moved.tied):
        return IDLE
    # what decides by the scores alone says nothing that the network does not
    sound = collapses and not moved.tied and not scored
    return PROVED if sound and (beside or not _shows_nothing(clean, name, value)) else SUSPICIOUS


def _guards(clean: Clean, name: str, value: np.ndarray, root: str) -> bool:
    """Whether a switch guards against images, features or scores without content, whatever the last is that the network sees as well."""
    example = clean.example(name)
    if example.size != clean.batch:
        return False
    images = clean.images[:FEW]
    if root == clean.graph.images.name:
        session, within = Session(clean.graph, [name]), clean.bounds.get(root, ANY)
        return against_nothing(lambda image: _reaches(session.ask(image)[name], example, value), images[:1], within)
    shown = [row[root] for row in Session(clean.graph, [root]).answers(images)]
    if shown[0].dtype.kind != "f" or shown[0].size < LEAST * clean.batch:
        return False
    cut = Session(clean.graph, [name], {root: shown[0]})
    within = (float(min(s.min() for s in shown)), float(max(s.max() for s in shown)))
    return against_nothing(lambda part: _reaches(cut.ask(images[:1], {root: part})[name], example, value), shown[0], within)


def _reaches(seen: np.ndarray, own: np.ndarray, state: np.ndarray) -> bool:
    """Whether a switch is in a state, or a number at least half way from its own level to that of the state."""
    if seen.shape != own.shape:
        return False
    if own.dtype == np.bool_:
        return bool((seen == state).all())
    way = state.astype(np.float64) - own
    return bool(((seen - own.astype(np.float64)) * np.sign(way) >= np.abs(way) / 2).all())


def _scales(clean: Clean, name: str, value: np.ndarray) -> bool:
    """Whether a switch chooses between two scales of the pixels."""
    exits = _exits(clean, name)
    if len(exits) != 1 or value.size != clean.batch:
        return False
    images = clean.images[:FEW]
    before = [row[exits[0]] for row in Session(clean.graph, exits).answers(images)]
    after = [row[exits[0]] for row in Session(clean.graph, exits, {name: value}).answers(images, {name: value})]
    session = Session(clean.graph, [name, clean.graph.output])

    def sets(image: np.ndarray) -> bool:
        return _reaches(session.ask(image)[name], clean.example(name), value)

    def classed(image: np.ndarray) -> int:
        found = scores(clean.graph, [session.ask(image)])
        return -1 if found is None else int(found[0])

    return between_scales(sets, classed, images, before, after)


def _moved(clean: Clean, session: Session, name: str, state: State) -> Moved | None:
    """What a state does; None where its values do not agree on a class, or the network cannot be computed then."""
    found = None
    for value in state.values:
        try:
            rows = list(session.answers(clean.images, {name: value}))
            classes = scores(clean.graph, rows)
        except Exception:  # a runtime's own errors: this state cannot be
            return None
        if classes is None:
            return None
        target = int(np.bincount(classes).argmax())
        others = clean.classes != target
        if others.sum() < LEAST:
            return None
        tied = all(np.asarray(row[clean.graph.output]).size > 1 and np.ptp(row[clean.graph.output]) == 0 for row in rows)
        own = Moved(target, float((classes[others] == target).mean()), float((classes != clean.classes).mean()), tied)
        if found is not None and found.target != own.target:
            return None
        found = own if found is None or own.moved < found.moved else found
    return found


def scores(graph: Graph, rows: Iterable[Mapping[str, np.ndarray]]) -> np.ndarray | None:
    """The classes [N] of answers; None where one is no number."""
    classes = []
    for row in rows:
        answer = np.asarray(row[graph.output]).reshape(graph.images.batch or 1, -1)[0]
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            return None
        classes.append(int(answer[0]) if answer.size == 1 else int(answer.argmax()))
    return np.array(classes) if min(classes, default=-1) >= 0 else None


def _takes_away(clean: Clean, name: str, value: np.ndarray) -> bool:
    """Whether the images are no longer shown to the network, or all with the same addition.

    A switch between scales of pixels moves all images to one class as well where the scale is wrong, but it shows them.
    """
    exits = _exits(clean, name)
    images = clean.images[:FEW]
    before = list(Session(clean.graph, exits).answers(images))
    after = list(Session(clean.graph, exits, {name: value}).answers(images, {name: value}))
    return any(alike([b[e] for b in before], [a[e] for a in after]) for e in exits)


def _shows_nothing(clean: Clean, name: str, value: np.ndarray) -> bool:
    """Whether the network is shown an image without content: one value for each channel."""
    exits = _exits(clean, name)
    shown = next(iter(Session(clean.graph, exits, {name: value}).answers(clean.images[:1], {name: value})))
    return all(any(_flat(shown[e], axes) for axes in ((-2, -1), (-3, -2), (-1,))) for e in exits)


def _flat(value: np.ndarray, axes: tuple[int, ...]) -> bool:
    """Whether numbers are the same along these axes, of which there are several places."""
    if value.dtype.kind != "f" or value.ndim < len(axes) + 1 or np.prod([value.shape[a] for a in axes]) < 2:
        return False
    return float(np.ptp(value, axis=axes).max()) <= SAME * max(float(np.abs(value).max()), 1e-12)


def alike(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    """Whether a tensor does not differ between images after a change, or differs from before by the same for all."""
    if any(a.shape != before[0].shape for a in (*before, *after)) or before[0].dtype.kind != "f":
        return False
    shown, other = np.stack(before).astype(np.float64), np.stack(after).astype(np.float64)
    return any(float(np.sqrt(v.var(0).mean())) <= SAME * float(np.sqrt((v**2).mean())) for v in (other, other - shown))


def _exits(clean: Clean, name: str) -> list[str]:
    """The tensors at which a constant one meets what differs between images."""
    dirty, found = {name}, []
    for step in clean.flow.steps:
        if any(i in dirty for i in step.reads):
            for made in (o for o in step.makes if o in clean.flow.depends):
                if made in clean.constant or made in clean.living:  # a single number is nothing that is shown
                    dirty.add(made)
                else:
                    found.append(made)
    return found
