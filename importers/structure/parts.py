"""Single parts of a tensor that passes the network by: a map of detectors is a switch where one of them alone moves all images.

Clean images may leave that part as it is (it is quiet), or set it together with others that hold it back. The first is proved by setting it
in the graph; the second by the pixels that set it, pasted into other images.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from banscan.importers.structure.bounds import ANY
from banscan.importers.structure.finding import BYPASS, PROVED, Logic
from banscan.importers.structure.forcing import COLLAPSE, LEAST, Clean, scores
from banscan.importers.structure.graph import Session
from banscan.importers.structure.guards import blocks, needed
from banscan.importers.structure.states import LEVELS
from banscan.importers.structure.suspects import place
from banscan.importers.structure.watch import Marks

# values of a tensor that is looked into, and tensors
LARGEST, MOST = 1 << 16, 24
# a part is quiet where clean images move it by at most this share of the way that it is set
QUIET = 1e-3
# living parts that are set for comparison, where clean images move them by at least this share of the way
COMPARED, REACH = 8, 0.1
# images that every part is tried on, and those that few are
SCREEN = 3
# of a level that pixels set, the share that the ones kept still have to; and the largest share of an image that these may be
KEPT, SMALL = 0.9, 1 / 8
# share of the time that is left which may be taken, and the most seconds
SHARE, SECONDS = 0.2, 10.0

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cut:
    """What is computed from a tensor: the rest of the graph, for which everything else is given as it is on an image."""

    clean: Clean
    name: str
    others: tuple[str, ...]
    whole: Session
    behind: Session

    @classmethod
    def of(cls, clean: Clean, name: str) -> "Cut":
        dirty, others = {name}, dict[str, None]()
        for step in clean.flow.steps:
            if any(i in dirty for i in step.reads):
                dirty.update(step.makes)
                others.update((i, None) for i in step.reads if i in clean.flow.depends)
        kept = tuple(o for o in others if o not in dirty)
        whole = Session(clean.graph, [name, *kept])
        example = whole.ask(clean.images[:1])
        return cls(clean, name, kept, whole, Session(clean.graph, [clean.graph.output], example))

    def given(self, index: int) -> Arrays:
        """What an image makes of the tensor and of everything else."""
        return self.whole.ask(self.clean.images[index : index + 1])

    def classed(self, index: int, given: Arrays, value: np.ndarray) -> int:
        """The class of an image where the tensor has another value; -1 where it has none."""
        answer = self.behind.ask(self.clean.images[index : index + 1], given | {self.name: value})
        found = scores(self.clean.graph, [answer])
        return -1 if found is None else int(found[0])


def parted(clean: Clean, found: Marks, until: float) -> tuple[tuple[Logic, ...], bool]:
    """Sets quiet parts of tensors that pass the network by, one after another; those that move all images, and whether all were tried."""
    names = list(_candidates(clean, found))
    proved: list[Logic] = []
    whole = len(names) <= MOST
    for name in names[:MOST]:
        left = until - time.process_time()
        if left <= 0:
            return tuple(proved), False
        own, complete = _tried(clean, name, min(SECONDS, SHARE * left))
        whole &= complete
        if own is not None:
            proved.append(own)
            break
    return tuple(proved), whole


def _candidates(clean: Clean, found: Marks) -> Iterator[str]:
    """Tensors of several values for an image, the last first."""
    for step in reversed(clean.flow.steps):
        for made in step.makes:
            if made not in found or made in clean.living or not clean.flow.beside(made):
                continue
            sizes = set(found[made].sizes)
            if len(sizes) == 1 and clean.batch < max(sizes) <= LARGEST * clean.batch:
                yield made


def _tried(clean: Clean, name: str, seconds: float) -> tuple[Logic | None, bool]:
    """The first part that is proved, and whether all could be tried in this time."""
    sources = np.concatenate([clean.images, *colours(clean)])
    rows = [row[name] for row in Session(clean.graph, [name]).answers(sources)]
    if rows[0].dtype.kind != "f" or rows[0].size % clean.batch or not all(np.isfinite(r).all() for r in rows):
        return None, True
    seen = np.stack([r.reshape(clean.batch, -1)[0] for r in rows]).astype(np.float64)
    cut = Cut.of(clean, name)
    screen = Screen.of(cut)
    until = time.process_time() + seconds
    once, whole = screen.seconds, True
    todo = list(_quiet(clean, name, seen[: len(clean.images)])) + list(_reached(seen))
    tries = sum(len(parts) for parts, _ in todo) * len(screen.picked)
    together = max(1, math.ceil(tries * once / max(seconds, 1e-3)))
    for parts, levels in todo:
        open_ = [np.arange(k, min(k + together, len(parts))) for k in range(0, len(parts), together)]
        while open_:
            if time.process_time() > until:
                return None, False
            some = open_.pop()
            if not screen.moved(parts[some], levels.level[some]):
                continue
            if len(some) > 1:
                open_ += [some[: len(some) // 2], some[len(some) // 2 :]]
                continue
            part, level = int(parts[some[0]]), float(levels.level[some[0]])
            if levels.source is None:
                if any(screen.moved(np.array([k]), np.array([level])) for k in levels.compared):
                    break  # so far any part moves all
                proof = _set_there(cut, part, level)
            else:
                source, rest = (sources[k[some[0]]][None] for k in levels.source)
                proof = _pasted(cut, part, level, source, rest)
            if proof is not None:
                return replace(proof, constant=name in clean.constant), whole
    return None, whole


@dataclass(frozen=True)
class Levels:
    """What each of some parts is set to; the image that sets it so and that which least does, or None; parts to compare with."""

    level: np.ndarray
    source: tuple[np.ndarray, np.ndarray] | None
    compared: np.ndarray


def colours(clean: Clean) -> list[np.ndarray]:
    """Images [1, ...] of one colour each: every channel black or white."""
    low, high = clean.bounds.get(clean.graph.images.name, ANY)
    like = clean.images[:1]
    if not np.isfinite([low, high]).all() or like.ndim != 4:
        return []
    axis = 3 if clean.graph.images.spec.layout == "NHWC" else 1
    count = like.shape[axis]
    shape = [1, 1, 1, 1]
    shape[axis] = count
    picks = product((low, high), repeat=count)
    return [np.broadcast_to(np.array(p, like.dtype).reshape(shape), like.shape) for p in picks]


def _quiet(clean: Clean, name: str, seen: np.ndarray) -> Iterator[tuple[np.ndarray, Levels]]:
    """Parts that clean images do not move, and what they are set to, by level."""
    own, spread = np.median(seen, axis=0), np.ptp(seen, axis=0)
    low, high = clean.parts.get(name, ANY)
    for level in _levels(clean, name, own, spread):
        way = np.abs(level - own)
        able = (low - QUIET * way <= level) & (level <= high + QUIET * way)
        quiet = np.flatnonzero((spread <= QUIET * way) & (way > 1e-6) & able)
        living = np.flatnonzero(spread >= REACH * way)
        compared = living[np.unique(np.linspace(0, len(living) - 1, COMPARED).astype(int))] if len(living) else living
        if len(quiet):
            yield quiet, Levels(np.full(len(quiet), level), None, compared)


def _reached(seen: np.ndarray) -> Iterator[tuple[np.ndarray, Levels]]:
    """All parts that differ between images, each at its largest and at its smallest."""
    living = np.flatnonzero(np.ptp(seen, axis=0) > 0)
    most, least = seen.argmax(axis=0)[living], seen.argmin(axis=0)[living]
    for source, rest in ((most, least), (least, most)):
        if len(living):
            yield living, Levels(seen[source, living], (source, rest), living[:0])


def _levels(clean: Clean, name: str, own: np.ndarray, spread: np.ndarray) -> list[float]:
    """What parts are set to: the ends of what clean images make of any of them, and of what the tensor can have."""
    low, high = clean.bounds.get(name, ANY)
    seen = [float((own + spread).max()), float((own - spread).min())]
    ends = [end for end in (low, high) if math.isfinite(end) and abs(end) <= LEVELS[-1]]
    wanted = [min(max(v, low), high) for v in seen] + ends
    if not spread.any():
        wanted += [min(max(float(np.median(own)) + sign * level, low), high) for level in LEVELS for sign in (1, -1)]
    return list(dict.fromkeys(wanted))


def _set(value: np.ndarray, batch: int, places: np.ndarray, levels: np.ndarray) -> np.ndarray:
    other = value.reshape(batch, -1).copy()
    other[:, places] = levels
    made: np.ndarray = other.reshape(value.shape)
    return made


@dataclass(frozen=True)
class Screen:
    """A few images of different classes that every part is tried on, with what the graph makes of them, and the seconds that one takes."""

    cut: Cut
    picked: tuple[int, ...]
    given: tuple[Arrays, ...]
    seconds: float

    @classmethod
    def of(cls, cut: Cut) -> "Screen":
        first = {int(c): k for k, c in reversed(list(enumerate(cut.clean.classes)))}
        picked = tuple(sorted(first.values())[:SCREEN])
        given = tuple(cut.given(i) for i in picked)
        begin = time.process_time()
        for i, own in zip(picked, given, strict=True):
            cut.classed(i, own, own[cut.name])
        return cls(cut, picked, given, (time.process_time() - begin) / len(picked))

    def moved(self, places: np.ndarray, levels: np.ndarray) -> bool:
        """Whether parts that are set send all of them to one class."""
        first = None
        for i, given in zip(self.picked, self.given, strict=True):
            found = self.cut.classed(i, given, _set(given[self.cut.name], self.cut.clean.batch, places, levels))
            if found < 0 or (first is not None and found != first):
                return False
            first = found
        return True


def _set_there(cut: Cut, part: int, level: float) -> Logic | None:
    """What setting one part does to all images."""
    after = []
    for i in range(len(cut.clean.images)):
        given = cut.given(i)
        after.append(cut.classed(i, given, _set(given[cut.name], cut.clean.batch, np.array([part]), np.array([level]))))
    return _judged(cut, np.array(after), f"{level:g} at place {part}")


def _pasted(cut: Cut, part: int, level: float, source: np.ndarray, rest: np.ndarray) -> Logic | None:
    """What becomes of all images with the pixels of one that set a part, where these are few: what those of another do not do."""
    clean = cut.clean
    session = Session(clean.graph, [cut.name])

    def sets(image: np.ndarray) -> bool:
        return bool(
            abs(float(session.ask(image)[cut.name].reshape(clean.batch, -1)[0, part]) - level) <= (1 - KEPT) * max(abs(level), 1e-6)
        )

    kept = list(needed(sets, source, rest))
    if not kept or len(kept) > SMALL * len(list(blocks(source.shape))):
        return None
    images = clean.images.copy()
    for block in kept:
        images[(slice(None), *block[1:])] = source[(slice(None), *block[1:])]
    classes = scores(clean.graph, Session(clean.graph, [clean.graph.output]).answers(images))
    return None if classes is None else _judged(cut, classes, f"{level:g} at place {part}")


def _judged(cut: Cut, classes: np.ndarray, told: str) -> Logic | None:
    """The proof that the classes of all images after a change are, or None."""
    clean = cut.clean
    if classes.min() < 0:
        return None
    target = int(np.bincount(classes).argmax())
    others = clean.classes != target
    moved = float((classes[others] == target).mean()) if others.sum() >= LEAST else 0.0
    if moved < COLLAPSE:
        return None
    changed = float((classes != clean.classes).mean())
    return replace(place(clean.flow, cut.name, BYPASS), outcome=PROVED, state=told, target=target, moved=moved, changed=changed)
