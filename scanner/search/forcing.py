"""Neurons forced to a level, one at a time or several together, and what the network answers then. Forward passes only."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from banscan.scanner.search.pixel_model import all_margins
from banscan.scanner.search.taps import Tap


def _radical(number: int, base: int) -> float:
    """The digits of a number behind the point."""
    result, share = 0.0, 1.0
    while number:
        share /= base
        number, digit = divmod(number, base)
        result += digit * share
    return result


# where a neuron is forced at one place: the middle, then places that cover the map and its phases evenly (Halton's sequence)
SPOTS = tuple((_radical(i, 2), _radical(i, 3)) for i in range(1, 17))


@dataclass(frozen=True)
class Forcing:
    """Neurons of one layer set to these values, at all places of its map or at one, the number of which is given."""

    neurons: tuple[int, ...]
    values: tuple[float, ...]
    spot: int | None = None


def forced(value: Tensor, tap: Tap, forcing: Forcing) -> Tensor:
    """A layer's tensor with some of its neurons forced."""
    result = value.clone()
    rows = result.movedim(tap.axis, 0)
    given = torch.tensor(forcing.values, dtype=value.dtype, device=value.device)
    places: tuple[Any, ...] = (
        () if forcing.spot is None else tuple(int(u * size) for u, size in zip(SPOTS[forcing.spot], rows.shape[2:], strict=False))
    )
    for neuron, number in zip(forcing.neurons, given, strict=True):
        where: Any = (neuron, slice(None), *places)
        rows[where] = number
    return result


@dataclass(frozen=True)
class Effect:
    """What a change of the network does to images.

    Attributes:
        moved: [C], the share of the images that are not of a class already which go there.
        push: [C], by how much the margin of the class grows on them, on average.
    """

    moved: Tensor
    push: Tensor

    @property
    def target(self) -> int:
        """Where it pushes most."""
        return int(self.push.argmax())


def effect(before: Tensor, after: Tensor) -> Effect:
    """From logits [N, C] without and with the change."""
    own, now = before.argmax(1), after.argmax(1)
    others = torch.ones_like(before).scatter(1, own[:, None], 0)
    count = others.sum(0).clamp(min=1)
    went = torch.zeros_like(before).scatter(1, now[:, None], 1)
    return Effect((went * others).sum(0) / count, ((all_margins(after) - all_margins(before)) * others).sum(0) / count)
