"""The structure of a graph that `Script` runs: branches on the values of pixels, and what becomes of the answers when these are forced."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers.model import Input
from banscan.importers.normal.trace import export
from banscan.importers.pytorch import language, trial
from banscan.importers.pytorch.script import Script
from banscan.importers.structure import traced
from banscan.importers.structure.finding import BRANCH, IDLE, PROVED, SEEN, SUSPICIOUS, Logic, Look, Structure
from banscan.importers.structure.forcing import COLLAPSE, LEAST, MANY, alike
from banscan.importers.structure.guards import against_nothing, between_scales
from banscan.importers.structure.settle import Fixed, Settled
from banscan.importers.structure.suspects import suspects, unsettled

# makes the graph of a file
Opener = Callable[[Path], Script]
# branches that are forced, and images that what they come to is compared on
MOST, FEW = 64, 8
# what a graph ends with that cannot go a way
ERRORS = (ModelError, RuntimeError, ValueError, IndexError, TypeError)


class Set:
    """Answers branches as they are told; without an answer a graph is refused."""

    known = False

    def __init__(self, answers: dict[str, bool]) -> None:
        self.answers = answers

    def number(self, value: Tensor) -> Any:
        return False if value.dtype == torch.bool else 0.0

    def branch(self, name: str, condition: Any) -> bool:
        if name not in self.answers:
            raise ModelError(language.PIXELS)
        return self.answers[name]

    def joined(self, name: str, values: list[Any]) -> None:
        """Of no interest."""


class Noted(Set):
    """Goes one way at every branch, and notes their names."""

    def __init__(self, way: bool) -> None:
        super().__init__({})
        self.way = way

    def branch(self, name: str, condition: Any) -> bool:
        self.answers[name] = self.way
        return self.way


class Real(Set):
    """Goes the way that the pixels say, but for branches that are forced; notes the ways and what they come to."""

    known = True

    def __init__(self, forced: dict[str, bool]) -> None:
        super().__init__({})
        self.forced = forced
        self.results: dict[str, list[np.ndarray]] = {}

    def number(self, value: Tensor) -> Any:
        return value.item()

    def branch(self, name: str, condition: Any) -> bool:
        self.answers[name] = bool(condition)
        return self.forced.get(name, bool(condition))

    def joined(self, name: str, values: list[Any]) -> None:
        self.results[name] = [v.numpy() for v in values if isinstance(v, Tensor)]


def opened(path: Path, open_: Opener, settled: Settled | None, size: tuple[int, int] | None, logits: str | None) -> tuple[Script, Input]:
    """The graph of a file and what it takes, with the branches of `settled` answered."""
    module = open_(path)
    if settled is not None:
        module.decide = Set({name: bool(number.value) for name, number in settled.numbers.items()})
    spec = trial.image(path, module, size)
    trial.choose(path, module, spec, logits)
    trial.check_types(module, spec)
    return module, spec


def look(path: Path, open_: Opener, logits: str | None) -> Look:
    """The branches on pixels of a file.

    Raises:
        ModelError: it is damaged or refused, or takes no images.
    """
    module, noted, spec = _noted(path, open_, logits)
    structure = Structure(places=tuple(_place(name) for name in noted.answers))
    doubtful = bool(structure.places)
    if not doubtful:
        structure, doubtful = _flow(path, module, spec)
    classes = 0
    if doubtful:
        with torch.no_grad():
            classes = module(torch.zeros(1, *spec.example().shape[1:])).numel()
    return Look(structure, doubtful, spec, classes)


def _flow(path: Path, module: Script, spec: Input) -> tuple[Structure, bool]:
    """What a graph without branches decides by the pixels, and whether that may be why it cannot be read."""
    module.decide = None
    flow = traced.flow_of(export(path, module, spec.example()))
    found = suspects(flow)
    doubtful = unsettled(flow, found)
    extra = tuple(p for p in doubtful if p not in found)
    return Structure(places=(*extra, *found), shortest=flow.shortest, longest=flow.longest), bool(doubtful)


def _noted(path: Path, open_: Opener, logits: str | None) -> tuple[Script, Noted, Input]:
    """The graph run once, with every branch one way; the other, where that cannot be computed."""
    for way in (False, True):
        module = open_(path)
        module.decide = noted = Noted(way)
        try:
            spec = trial.image(path, module, None)
            trial.choose(path, module, spec, logits)
        except ModelError:
            if way:
                raise
            continue
        return module, noted, spec
    raise AssertionError


def _place(name: str) -> Logic:
    return Logic(tensor=name, node=name, operator="If", kind=BRANCH, before=0, after=0)


@torch.no_grad()
def examine(
    path: Path, open_: Opener, logits: str | None, images: np.ndarray, pixels: tuple[float, float], seconds: float
) -> tuple[Structure, Settled]:
    """Runs a file on preprocessed images [N, ...] between `pixels`, with its branches forced the other way, one after another."""
    until = time.process_time() + seconds
    module, noted, _ = _noted(path, open_, logits)
    if not noted.answers:
        return Structure(not_done="graphs of PyTorch are forced at their branches only"), Settled()
    clean = _answers(module, images, {})
    ways = {name: [bool(a[name]) for _, a, _ in clean if name in a] for name in dict.fromkeys(n for _, a, _ in clean for n in a)}
    classes = np.array([c for c, _, _ in clean])
    base = Structure(places=tuple(_place(n) for n in ways), images=len(images))
    if min(classes) < 0 or len(np.unique(classes)) < 2:
        return replace(base, not_done="it gives all of the images the same answer, so that none can be moved"), Settled()
    places, numbers = [], {}
    for name, seen in list(ways.items())[:MOST]:
        place = replace(_place(name), constant=len(set(seen)) == 1)
        for way in (True, False):
            if time.process_time() > until or (place.constant and seen[0] == way) or place.outcome == PROVED:
                continue
            place = _forced(module, images, place, way, clean, classes, pixels)
        if place.outcome == PROVED:
            numbers[name] = Fixed(float(place.state == "false"), 0, "bool")
        elif place.constant:
            numbers[name] = Fixed(float(seen[0]), 0, "bool")
        places.append(place)
    order = (PROVED, SUSPICIOUS, IDLE, SEEN)
    return replace(base, places=tuple(sorted(places, key=lambda p: order.index(p.outcome)))), Settled(numbers=numbers)


Row = tuple[int, dict[str, bool], dict[str, list[np.ndarray]]]


def _answers(module: Script, images: np.ndarray, forced: dict[str, bool]) -> list[Row]:
    """For each image its class, -1 where it has none, the ways of the branches, and what they come to."""
    rows = []
    for i in range(len(images)):
        module.decide = real = Real(forced)
        answer = module(torch.from_numpy(images[i : i + 1])).reshape(-1)
        sound = answer.numel() > 1 and bool(torch.isfinite(answer).all())
        rows.append((int(answer.argmax()) if sound else -1, dict(real.answers), real.results if i < FEW else {}))
    return rows


def _forced(
    module: Script, images: np.ndarray, place: Logic, way: bool, clean: list[Row], classes: np.ndarray, pixels: tuple[float, float]
) -> Logic:
    """What becomes of a branch that is forced one way."""
    try:
        rows = _answers(module, images, {place.tensor: way})
    except ERRORS:  # it cannot go this way
        return place
    after = np.array([c for c, _, _ in rows])
    if min(after) < 0:
        return place
    target = int(np.bincount(after).argmax())
    others, changed = classes != target, float((after != classes).mean())
    if others.sum() < LEAST or changed < (place.changed or 0.0):
        return replace(place, outcome=IDLE) if place.outcome == SEEN else place
    moved = float((after[others] == target).mean())
    name = place.tensor
    pairs = [(c[name], r[name]) for (_, _, c), (_, _, r) in zip(clean[:FEW], rows, strict=False) if name in c and name in r]
    joined = [([c[k] for c, _ in pairs], [r[k] for _, r in pairs]) for k in range(min((len(c) for c, _ in pairs), default=0))]
    away = any(alike(before, others) for before, others in joined)
    outcome = PROVED if moved >= COLLAPSE and away else SUSPICIOUS if changed >= MANY else IDLE
    if outcome != IDLE and _ordinary(module, name, way, images, pixels, joined):
        outcome = IDLE
    return replace(place, outcome=outcome, state=str(way).lower(), target=target, moved=moved, changed=changed)


def _ordinary(
    module: Script,
    name: str,
    way: bool,
    images: np.ndarray,
    pixels: tuple[float, float],
    joined: list[tuple[list[np.ndarray], list[np.ndarray]]],
) -> bool:
    """Whether a branch guards against images without content, or chooses between two scales of the pixels."""

    def asked(image: np.ndarray) -> Row:
        try:
            return _answers(module, image, {})[0]
        except ERRORS:
            return -1, {}, {}

    def sets(image: np.ndarray) -> bool:
        return asked(image)[1].get(name) == way

    if against_nothing(sets, images[:1], pixels):
        return True
    return len(joined) == 1 and between_scales(sets, lambda image: asked(image)[0], images[: len(joined[0][0])], *joined[0])
