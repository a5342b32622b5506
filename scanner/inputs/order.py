"""Whether labels that a model does not agree with are the right ones in another order: counted from 1, sorted as text, or any other."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from banscan.scanner.inputs.labels import from_one

# another order has to fit this much better than the labels as they are
BETTER = 0.25
# images of a class, half of which find an order that the others try
ENOUGH = 2
FROM_ONE = "with 1 taken off every label"
# classes that are shown of an order without a name
SHOWN = 3


@dataclass(frozen=True)
class Order:
    """An order of the classes under which labels and predictions agree: `what` it is, in words that begin with "with", and how often.

    `lines` says what names in the model's order are then, where that is easily said.
    """

    what: str
    accuracy: float
    lines: str | None = None


def other(predictions: Tensor, labels: Tensor, classes: int, floor: float) -> Order | None:
    """The order that fits best, where one does far better than the labels as they are; `floor` is the least it must come to.

    Args:
        predictions, labels: [N].
    """
    least = max(floor, share(predictions, labels) + BETTER)
    found = [
        Order(what, share(predictions, torch.as_tensor(new)[labels]), from_one(classes) if what == FROM_ONE else None)
        for what, new in _named(classes)
    ]
    free = _free(predictions, labels, classes)
    # one that has a name says more than one that any permutation may fit as well
    best = max((o for o in found if o.accuracy >= least), key=lambda o: o.accuracy, default=None)
    if best is None and free is not None and free.accuracy >= least:
        return free
    return best


def share(predictions: Tensor, labels: Tensor) -> float:
    """How many agree."""
    return float((predictions == labels).double().mean())


def _named(classes: int) -> Iterator[tuple[str, np.ndarray]]:
    """Orders as people and programs make them: the class [C] that is meant by each label; -1 is none."""
    own = np.arange(classes)
    yield FROM_ONE, own - 1
    yield "with 1 added to every label", np.where(own + 1 < classes, own + 1, -1)
    for first in (0, 1):
        place = np.argsort(sorted(own, key=lambda c: str(c + first)))
        yield f"with the numbers sorted as text ({', '.join(sorted(str(c + first) for c in own)[:4])}, …)", place
        yield "with the numbers sorted as numbers in place of text", np.argsort(place)


def _free(predictions: Tensor, labels: Tensor, classes: int) -> Order | None:
    """Any order, found on one half of the images of every class and tried on the other."""
    first = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels.unique().tolist():
        first[(labels == c).nonzero()[:, 0][::2]] = True
    counts = torch.bincount(labels, minlength=classes)
    if not bool(counts[counts > 0].double().median() >= 2 * ENOUGH):
        return None
    votes = np.zeros((classes, classes))
    np.add.at(votes, (labels[first].numpy(), predictions[first].numpy()), 1)
    new = linear_sum_assignment(votes, maximize=True)[1]
    moved = [f"label {c} as class {new[c]}" for c in labels.unique().tolist() if new[c] != c]
    shown = f"{', '.join(moved[:SHOWN])}{', …' if len(moved) > SHOWN else ''}"
    return Order(f"with {shown}", share(predictions[~first], torch.as_tensor(new)[labels[~first]]))
