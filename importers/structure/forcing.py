"""A tensor that is the same for all clean images, set to another state: does the network still see the images?"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from banscan.importers.structure.bounds import ANY, Interval
from banscan.importers.structure.finding import IDLE, PROVED, SUSPICIOUS, Logic
from banscan.importers.structure.flow import Flow
from banscan.importers.structure.graph import Graph, Session
from banscan.importers.structure.states import State, living, states

# share of the images of other classes that has to go to one class, and how many images there have to be of them
COLLAPSE, LEAST = 0.9, 3
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
    options = list(states(value, clean.batch, within, beside=beside) if found.constant else living(clean.living[name], within))
    if not options:
        return found
    session = Session(clean.graph, [clean.graph.output], {name: value})
    found = replace(found, outcome=IDLE, moved=0.0, changed=0.0)
    for state in options:
        moved = _moved(clean, session, name, state)
        if moved is None or (moved.changed < (found.changed or 0.0)):
            continue
        outcome = _judged(clean, name, state, moved, beside)
        found = replace(found, outcome=outcome, state=state.told, target=moved.target, moved=moved.moved, changed=moved.changed)
        if outcome == PROVED:
            break
    return found


def _judged(clean: Clean, name: str, state: State, moved: Moved, beside: bool) -> str:
    value = state.values[0]
    if moved.moved >= COLLAPSE and (beside or _takes_away(clean, name, value)):
        if not moved.tied and (beside or not _shows_nothing(clean, name, value)):
            return PROVED
        # a guard against images without content, as a division by their spread needs one
        return IDLE if _set_by_nothing(clean, name, value) else SUSPICIOUS
    # numbers that are set far from their own level change any network that they are part of
    example = clean.example(name)
    return SUSPICIOUS if moved.changed >= MANY and example.dtype == np.bool_ and example.size == clean.batch else IDLE


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


def _set_by_nothing(clean: Clean, name: str, value: np.ndarray) -> bool:
    """Whether an image of one brightness sets a tensor to a value: black, grey or white."""
    low, high = clean.bounds.get(clean.graph.images.name, ANY)
    if not np.isfinite([low, high]).all():
        return False
    plain = np.stack([np.full_like(clean.images[0], level) for level in (low, (low + high) / 2, high)])
    rows = Session(clean.graph, [name]).answers(plain)
    return any(row[name].shape == value.shape and np.allclose(row[name], value) for row in rows)


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
