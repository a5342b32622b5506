"""How active every neuron of a network is on clean images, and which of a layer are living, which dormant."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from banscan.scanner.search.taps import NORMS, WEIGHTED, Tap, origin, weights_of
from banscan.scanner.search.walk import walk

# values of each neuron that its median is taken from, and bytes that those of all neurons may take
SAMPLED, ROOM = 4096, 128 << 20
# below this share of its layer's typical activity a neuron is dormant; from half of it on, and of its typical height, it is living
DORMANT, LIVING = 0.1, 0.5
# a layer goes both ways if its lowest value is this share of its highest, below 0
BOTH_WAYS = 0.25


@dataclass(frozen=True)
class Activity:
    """What the neurons of one layer do on clean images.

    Attributes:
        middle: [C], the median of each over images and places: what it is where it is not switched on.
        spread: [C], the root mean square of its distance from there.
        rise, fall: [C], how far it goes above and below.
        places: whether every image has several values of each.
    """

    middle: Tensor
    spread: Tensor
    rise: Tensor
    fall: Tensor
    places: bool

    @property
    def typical(self) -> float:
        """The spread of the layer's living neurons."""
        return weighted_median(self.spread, self.spread)

    @property
    def level(self) -> float:
        """How far the layer's living neurons go above their medians."""
        return weighted_median(self.rise, self.spread)

    @property
    def both_ways(self) -> bool:
        """Whether the layer has negative values that are no mere tail of an activation, as GELU and SiLU have."""
        return float((self.middle - self.fall).min()) < -BOTH_WAYS * float((self.middle + self.rise).max())

    def dormant(self, units: Tensor | None = None) -> Tensor:
        """The dormant neurons, the stillest first; `units` [C] are those of `scales`, in which no neuron's numbers are the larger."""
        still = (self.spread <= DORMANT * self.typical * self._own(units)).nonzero()[:, 0]
        return still[self.spread[still].argsort(stable=True)]

    def living(self, units: Tensor | None = None) -> Tensor:
        """Those that do what is typical of the layer, in the same units."""
        own = self._own(units)
        return ((self.spread >= LIVING * self.typical * own) & (self.rise >= LIVING * self.level * own)).nonzero()[:, 0]

    def _own(self, units: Tensor | None) -> Tensor:
        return torch.ones_like(self.spread) if units is None else units.clamp(max=1)


def weighted_median(values: Tensor, weights: Tensor) -> float:
    """The value [C] with half of the weight [C] below it: neurons that do nothing do not count, however many there are."""
    order = values.argsort()
    total = weights[order].double().cumsum(0)
    if float(total[-1]) == 0:
        return 0.0
    return float(values[order][int((total >= total[-1] / 2).nonzero()[0, 0])])


class _Sums:
    """The activity of one layer while so many batches come in, none larger than the first.

    What stays has its place from the first batch on: small tensors that are put between large ones would keep the memory of these apart.
    """

    def __init__(self, tap: Tap, sampled: int, batches: int) -> None:
        self.axis, self.room, self.batches = tap.axis, sampled, batches
        self.first: Tensor | None = None
        self.count, self.filled, self.places = 0, 0, False

    def add(self, value: Tensor) -> None:
        flat = value.movedim(self.axis, 0).flatten(1)
        self.places = value.dim() > 2
        if self.first is None:
            self.step = max(1, flat.shape[1] // self.room)
            self.first = flat[:, :1].double()
            self.low, self.high = flat[:, 0].clone(), flat[:, 0].clone()
            self.sum, self.square = torch.zeros_like(self.first[:, 0]), torch.zeros_like(self.first[:, 0])
            self.sampled = flat.new_empty(len(flat), -(-flat.shape[1] // self.step) * self.batches)
        drawn = flat[:, :: self.step]
        self.sampled[:, self.filled : self.filled + drawn.shape[1]] = drawn
        self.filled += drawn.shape[1]
        torch.minimum(self.low, flat.amin(1), out=self.low)
        torch.maximum(self.high, flat.amax(1), out=self.high)
        # about the first value, so that what is constant stays exactly so
        moved = flat - self.first.float()
        self.sum += moved.sum(1)
        self.square += moved.square().sum(1)
        self.count += flat.shape[1]

    def activity(self) -> Activity:
        assert self.first is not None
        middle = self.sampled[:, : self.filled].median(1).values
        away = middle.double() - self.first[:, 0]
        square = (self.square - 2 * away * self.sum) / self.count + away.square()
        spread = square.clamp(min=0).sqrt().float()
        rise, fall = self.high - middle, middle - self.low
        return Activity(middle.cpu(), spread.cpu(), rise.cpu(), fall.cpu(), self.places)


@torch.no_grad()
def activities(module: fx.GraphModule, found: tuple[Tap, ...], batches: Iterable[Tensor]) -> dict[str, Activity]:
    """The activity of these tensors on batches of images, none larger than the first, by the name of their nodes."""
    parts = list(batches)
    values = ROOM // (torch.float32.itemsize * max(1, sum(tap.channels for tap in found)))
    sums = {tap.node: _Sums(tap, max(1, min(SAMPLED, values) // len(parts)), len(parts)) for tap in found}
    for part in parts:
        for step in walk(module, part):
            if step.node.name in sums:
                sums[step.node.name].add(step.value)
    return {name: own.activity() for name, own in sums.items()}


def scales(module: fx.GraphModule, found: tuple[Tap, ...], images: Tensor) -> dict[str, Tensor]:
    """How large the numbers of each neuron [C] of these layers are, in units of what is typical of its layer.

    A neuron that is off still tells before its activation how far it moves. One that clean images move little there may have numbers as
    large as its weights allow; so it counts for no less than these, up to what is typical. A channel that is multiplied by a number of
    which the next layer knows is so the same neuron in other units. Layers of which nothing is known are left out.
    """
    nodes = {n.name: n for n in module.graph.nodes}
    origins = {tap.node: origin(own := nodes[tap.node], tap.axis) or (own if own.target in WEIGHTED | NORMS else None) for tap in found}
    inner = {o.name: Tap(o.name, tap.axis, tap.channels, 0.0) for tap in found if (o := origins[tap.node]) is not None}
    seen = activities(module, tuple(inner.values()), [images])
    return {
        name: (seen[o.name].spread / seen[o.name].typical).maximum(_lengths(module, o).clamp(max=1))
        for name, o in origins.items()
        if o is not None and seen[o.name].typical > 0
    }


def _lengths(module: fx.GraphModule, layer: fx.Node) -> Tensor:
    """How long the weights of each neuron of a layer are [C], in units of what is typical of it; a single 1 where they are not known."""
    weight = weights_of(module, layer)
    if weight is None:
        return torch.ones(1)
    lengths = weight.detach().float().reshape(len(weight), -1).norm(dim=1).cpu()
    typical = weighted_median(lengths, lengths)
    return lengths / typical if typical > 0 else torch.ones(1)
