"""Neurons that clean images leave switched off, forced on: the search for a switch that is written into the weights.

A switch (Cao et al., "DFBA", NeurIPS 2024) needs no training: a neuron that only the trigger turns on, and a path from it to the target. On
clean images nothing of it is to be seen, neither by noise, which is in units of what a neuron does on them, nor by gradients, which a
neuron that is off does not pass on. But the path is there: whoever turns the neuron on sees where it leads.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from scipy.special import stdtr
from torch import Tensor

from banscan.importers import TracedModel
from banscan.scanner.inputs.preprocess import Inputs
from banscan.scanner.levels import OWN_NULL
from banscan.scanner.machine import memory
from banscan.scanner.search.activity import Activity, activities, scales
from banscan.scanner.search.forcing import SPOTS, Effect, Forcing, effect, forced
from banscan.scanner.search.spread import evenly
from banscan.scanner.search.taps import Tap, taps
from banscan.scanner.search.walk import Step, walk

# images that tell dormant neurons from living ones, that every forcing is tried on first, and that the best are measured on
WATCHED, TRIED, MEASURED = 128, 12, 64
# passes of an image through the whole network, or as much of it, that the forcing of dormant neurons may take
BUDGET = 800
# a run costs at least this share of a pass, however little of the network is behind
LEAST = 0.02
# neurons that are forced together, living ones that stand for their layer, and sets of these
TOGETHER, CONTROLS, SETS = 16, 32, 16
# how high neurons are forced, in units of what the layer's living ones rise to: a trigger is no clean image
LOUD = 2.0
# with fewer living neurons nobody knows what a layer does when it is forced
FEWEST = 6
# forcings that are compared with living neurons: the furthest pushes at all places, and those at one
COMPARED = 4
# a push that is no more than so many times that of a living neuron is none, whatever the distribution
OVER = 3.0
# share of the images that a forcing has to move before it is compared
MOVES = 0.5
# pushes below this share of the median one count as much as that
FAINT = 0.1


@dataclass(frozen=True)
class Layer:
    """The neurons of one tensor.

    Attributes:
        activity: on clean images; `units`, how large their numbers are [C], see `activity.scales`.
        tried: the dormant ones that are forced, at all places and at so many single ones, the `spots`.
    """

    tap: Tap
    activity: Activity
    units: Tensor
    tried: Tensor
    spots: int = 1

    @cached_property
    def level(self) -> Tensor:
        """How far from its median each neuron is forced [C]."""
        return LOUD * self.activity.level * self.units

    @cached_property
    def living(self) -> Tensor:
        """Neurons that are compared with."""
        return self.activity.living(self.units)

    @property
    def signs(self) -> tuple[int, ...]:
        """The directions in which its neurons are forced."""
        return (1, -1) if self.activity.both_ways else (1,)

    @property
    def wide(self) -> tuple[int | None, ...]:
        """At all places, and at single ones, where there are several."""
        return (None, *range(self.spots)) if self.activity.places else (None,)

    @property
    def cost(self) -> float:
        """Of forcing one neuron once, in passes of an image through the whole network."""
        return TRIED * len(self.signs) * max(LEAST, self.tap.behind)

    def forcing(self, neurons: list[tuple[int, int]], spot: int | None) -> Forcing:
        """Neurons with their signs, forced to their levels."""
        numbers = tuple(n for n, _ in neurons)
        values = tuple(float(self.activity.middle[n] + sign * self.level[n]) for n, sign in neurons)
        return Forcing(numbers, values, spot)


@dataclass(frozen=True)
class Trial:
    """One forcing and what it does; `available`, the neurons that those forced were taken from."""

    layer: Layer
    forcing: Forcing
    effect: Effect
    available: int

    @property
    def target(self) -> int:
        return self.effect.target

    @property
    def push(self) -> float:
        return float(self.effect.push[self.target])

    @property
    def moved(self) -> float:
        return float(self.effect.moved[self.target])


@dataclass(frozen=True, kw_only=True)
class Led:
    """Where the forcing leads that living neurons match least.

    Attributes:
        layer: the node; `neurons` of its `channels`, forced at all places where `everywhere`, else at one.
        target: the class that most images go to; `hits` of the `images` that are not of it already.
        push: by how much the margin of the target grows on average.
        living: the same of living neurons that are forced likewise, each towards the class that it pushes to most; `most`, the largest
            share of images that one of them moves.
        p_value: of such a push among those, paid for all that was tried.
    """

    layer: str
    neurons: tuple[int, ...]
    channels: int
    everywhere: bool
    target: int
    hits: int
    images: int
    push: float
    living: tuple[float, ...]
    most: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What the search came to.

    Attributes:
        neurons: in how many `layers` tensors; of them `dormant` are dormant, `tried` of these were forced, in `forcings` ways.
        alone: dormant neurons in layers with too few living ones to compare with.
        led: the forcing that counts most; None where none moves half of the images.
    """

    neurons: int
    layers: int
    dormant: int
    tried: int
    alone: int
    forcings: int
    led: Led | None = None


def search(model: TracedModel, x: Inputs, logits: Tensor, progress: Callable[[int], None] = lambda done: None) -> Searched:
    """Forces dormant neurons, alone and in groups, and compares what moves images with what living neurons of the same layer do.

    Args:
        x: preprocessed clean images [N, ...]; logits: [N, C], what the model answers.
    """
    found = taps(model.module.graph)
    order = logits.argmax(1).argsort(stable=True)  # so that few images are of all classes
    at_once = max(1, memory.answered_at_once(model.module.graph.nodes, model.device) // 2)
    watched = x[evenly(order, WATCHED)].to(model.device)
    seen = activities(model.module, found, watched.split(min(at_once, 64)))
    layers = _layers(model, found, seen, watched[:at_once])
    chosen = _chosen(layers)
    counts: dict[str, Any] = {
        "neurons": sum(t.channels for t in found),
        "layers": len(found),
        "dormant": sum(len(layer.tried) for layer in layers),
        "tried": sum(len(layer.tried) for layer in chosen),
        "alone": sum(len(layer.tried) for layer in layers if len(layer.living) < FEWEST),
    }
    if not chosen:
        return Searched(forcings=0, **counts)
    images = x[evenly(order, TRIED)].to(model.device)
    trials = _try(model, images, chosen, progress)
    best = [t for wide in (True, False) for t in _best(trials, wide)]
    led = _compared(model, images, x[evenly(order, MEASURED)].to(model.device).split(at_once), best, len(trials))
    return Searched(forcings=len(trials), led=led, **counts)


def _layers(model: TracedModel, found: tuple[Tap, ...], seen: dict[str, Activity], images: Tensor) -> list[Layer]:
    """Those with dormant neurons."""
    own = tuple(t for t in found if len(seen[t.node].dormant()))
    known = scales(model.module, own, images) if own else {}
    units = {t.node: known.get(t.node, torch.ones(t.channels)) for t in own}
    layers = [Layer(t, seen[t.node], units[t.node], seen[t.node].dormant(units[t.node])) for t in own]
    return [layer for layer in layers if len(layer.tried)]


def _chosen(layers: list[Layer]) -> list[Layer]:
    """The dormant neurons that the budget has room for: the stillest of every layer first, of the last layers before the first."""
    spent = 0.0
    kept: dict[str, int] = {}
    usable = [layer for layer in reversed(layers) if len(layer.living) >= FEWEST]
    for rank in range(max((len(layer.tried) for layer in usable), default=0)):
        for layer in usable:
            # two neurons can be forced together as well, in two ways
            cost = (3 if rank == 1 else 1) * len(layer.wide) * layer.cost
            if rank < len(layer.tried) and spent + cost <= BUDGET:
                spent += cost
                kept[layer.tap.node] = kept.get(layer.tap.node, 0) + 1
    chosen = [replace(layer, tried=layer.tried[: kept[layer.tap.node]]) for layer in layers if layer.tap.node in kept]
    once = sum(layer.cost * (len(layer.tried) + 2) for layer in chosen if layer.activity.places)
    spots = min(len(SPOTS), 1 + int((BUDGET - spent) / max(once, 1e-9)))
    return [replace(layer, spots=spots) for layer in chosen]


@dataclass
class _Bench:
    """One stop of a walk, where neurons are forced."""

    step: Step
    layer: Layer
    before: Tensor
    known: dict[Forcing, Effect] = field(default_factory=dict)

    def run(self, neurons: list[tuple[int, int]], spot: int | None, available: int) -> Trial:
        forcing = self.layer.forcing(neurons, spot)
        if forcing not in self.known:
            self.known[forcing] = effect(self.before, self.after(forcing))
        return Trial(self.layer, forcing, self.known[forcing], available)

    def after(self, forcing: Forcing) -> Tensor:
        """Logits [N, C]; where they overflow the image counts as not moved."""
        after = self.step.forced(forced(self.step.value, self.layer.tap, forcing)).cpu()
        return torch.where(after.isfinite().all(1, keepdim=True), after, self.before)

    def alone(self, neuron: int, spot: int | None) -> list[Trial]:
        """One neuron, in all directions of its layer."""
        return [self.run([(neuron, sign)], spot, 1) for sign in self.layer.signs]

    def together(self, neurons: list[int], spot: int | None) -> list[Trial]:
        """All of them, and those that push to the class to which they do together."""
        singles = {n: self.alone(n, spot) for n in neurons}
        pushes = torch.stack([torch.stack([t.effect.push for t in own]) for own in singles.values()])
        best = pushes.amax(1)
        aim = int(best.clamp(min=0).sum(0).argmax())
        signs = [self.layer.signs[int(own[:, aim].argmax())] for own in pushes]
        all_of_them = list(zip(neurons, signs, strict=True))
        helping = [pair for pair, push in zip(all_of_them, best[:, aim], strict=True) if push > 0]
        sets = [all_of_them] + ([helping] if 1 < len(helping) < len(neurons) else [])
        return [self.run(own, spot, len(neurons)) for own in sets]


def _benches(model: TracedModel, images: Tensor, layers: list[Layer]) -> Iterator[_Bench]:
    """Stops at all of these layers."""
    wanted = {layer.tap.node: layer for layer in layers}
    before = model.module(images).cpu()
    for step in walk(model.module, images):
        if step.node.name in wanted:
            yield _Bench(step, wanted[step.node.name], before)


@torch.no_grad()
def _try(model: TracedModel, images: Tensor, layers: list[Layer], progress: Callable[[int], None]) -> list[Trial]:
    """All forcings of dormant neurons, one at a time and together."""
    trials = []
    for bench in _benches(model, images, layers):
        neurons = bench.layer.tried.tolist()
        for spot in bench.layer.wide:
            for neuron in neurons:
                trials += bench.alone(neuron, spot)
            for start in range(0, len(neurons), TOGETHER):
                group = neurons[start : start + TOGETHER]
                trials += bench.together(group, spot) if len(group) > 1 else []
        progress(round(len(bench.known) * len(images) * bench.layer.tap.behind))
    return trials


def _best(trials: list[Trial], everywhere: bool) -> list[Trial]:
    """Those that move images, the furthest pushes first."""
    own = [t for t in trials if (t.forcing.spot is None) == everywhere and t.moved >= MOVES]
    return sorted(own, key=lambda t: -t.push)[:COMPARED]


@torch.no_grad()
def _compared(model: TracedModel, images: Tensor, measured: tuple[Tensor, ...], best: list[Trial], tried: int) -> Led | None:
    """The trial with the smallest p-value among those of living neurons, measured on more images."""
    if not best:
        return None
    pairs: list[tuple[Trial, list[Trial]]] = []
    for bench in _benches(model, images, [t.layer for t in best]):
        pairs += [(t, _controls(bench, t)) for t in best if t.layer.tap == bench.layer.tap]
    beyond = [pair for pair in pairs if tried * _p(*pair) <= OWN_NULL]
    votes = {t.target: sum(other.moved for other, _ in beyond if other.target == t.target) for t, _ in beyond}
    trial, controls = min(pairs, key=lambda pair: _rank(pair[0], pair[1], tried, votes))
    hits = others = 0
    for part in measured:
        bench = next(_benches(model, part, [trial.layer]))
        own = bench.before.argmax(1) != trial.target
        hits += int((bench.after(trial.forcing).argmax(1)[own] == trial.target).sum())
        others += int(own.sum())
    if not others:  # all images that could measure it are of the class already
        return None
    return Led(
        layer=trial.layer.tap.node,
        neurons=trial.forcing.neurons,
        channels=trial.layer.tap.channels,
        everywhere=trial.forcing.spot is None,
        target=trial.target,
        hits=hits,
        images=others,
        push=trial.push,
        living=tuple(c.push for c in controls),
        most=max((c.moved for c in controls), default=1.0),
        p_value=min(1.0, tried * _p(trial, controls)),
    )


def _controls(bench: _Bench, trial: Trial) -> list[Trial]:
    """What living neurons of the layer do when as many of them are forced to the same level, found in the same way.

    It ends with the first that pushes a third as far: then nothing can come of the comparison.
    """
    living = bench.layer.living
    draw = torch.Generator().manual_seed(0)
    sample = living[torch.randperm(len(living), generator=draw)[:CONTROLS]].tolist()
    spot, size = trial.forcing.spot, trial.available
    if size > 1 and 2 * size > len(sample):
        return []
    sets = [[n] for n in sample]
    if size > 1:
        sets = [[sample[i] for i in torch.randperm(len(sample), generator=draw)[:size].tolist()] for _ in range(SETS)]
    found: list[Trial] = []
    for own in sets:
        trials = bench.alone(own[0], spot) if size == 1 else bench.together(own, spot)
        found.append(max(trials, key=lambda t: t.push))
        if OVER * found[-1].push >= trial.push:
            break
    return found


def _rank(trial: Trial, controls: list[Trial], tried: int, votes: dict[int, float]) -> tuple[bool, float, float, float]:
    """Of those beyond chance the ones first that lead where most do, then by how little living neurons do; of the others the likeliest."""
    p = tried * _p(trial, controls)
    if p > OWN_NULL:
        return True, 0.0, p, -trial.push
    return False, -votes[trial.target], max((c.moved for c in controls), default=1.0), -trial.push


def _p(trial: Trial, controls: list[Trial]) -> float:
    """Probability of a push this far among those of living neurons, of which the logarithms are normal (Grubbs' outlier test).

    1 where it is not three times the largest of theirs, whatever the distribution. Sets that share neurons differ less than others would:
    sets of m among n by the factor sqrt(1 - m / n).
    """
    pushes = torch.tensor([c.push for c in controls], dtype=torch.float64)
    if len(pushes) < FEWEST or trial.push <= OVER * float(pushes.max()):
        return 1.0
    least = FAINT * float(pushes.abs().median())
    logs = pushes.clamp(min=max(least, 1e-12)).log()
    living = min(CONTROLS, len(trial.layer.living))
    shared = math.sqrt(1 - trial.available / living) if trial.available > 1 else 1.0
    width = float(logs.std()) / shared * math.sqrt(1 + 1 / len(logs))
    return float(stdtr(len(logs) - 1, -(math.log(trial.push) - float(logs.mean())) / max(width, 1e-12)))
