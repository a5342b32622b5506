"""What a graph is without its switches: where one of them meets the network, the result is a tensor that was there before."""

import numpy as np

from banscan.importers.structure.forcing import Clean
from banscan.importers.structure.graph import Graph, copied
from banscan.importers.structure.settle import Fixed, Settled, apply
from banscan.importers.structure.watch import Mark, Marks, twins

# pairs of tensors that are compared value by value
MOST = 64


def with_numbers(graph: Graph, numbers: dict[str, Fixed]) -> Graph:
    """A copy with numbers in the place of tensors."""
    copy = copied(graph)
    apply(copy.model, Settled(numbers=numbers))
    return copy


def same_as_before(clean: Clean, found: Marks, seeds: set[str], vectors: set[str]) -> dict[str, str]:
    """Where one of these constant tensors meets what differs between images: the tensor before it that the result is equal to.

    So it is where the graph chooses by a switch, adds what is nothing, or multiplies by one; whatever the operator. `vectors` are no
    constants; what is made of them is followed until it is equal to something.
    """
    order = {o: k for k, step in enumerate(clean.flow.steps) for o in step.makes}
    dirty, followed = seeds | vectors, set(vectors)
    pairs: list[tuple[str, str]] = []
    for step in clean.flow.steps:
        if not any(i in dirty for i in step.reads):
            continue
        for made in step.makes:
            if made not in clean.flow.depends or made in clean.constant:
                dirty.add(made)
                continue
            if made not in found:
                continue
            like = [
                o
                for o, mark in found.items()
                if o not in clean.constant and o not in followed and order[o] < order[made] and _near(mark, found[made])
            ]
            if not like and any(i in followed for i in step.reads):
                dirty.add(made)
                followed.add(made)
            pairs += [(made, o) for o in sorted(like, key=order.__getitem__, reverse=True)][: MOST - len(pairs)]
    return _straight(twins(clean.graph, pairs, clean.images))


def _near(one: Mark, other: Mark) -> bool:
    return one.sizes == other.sizes and bool(np.allclose(np.array(one.sums), np.array(other.sums), rtol=1e-4, atol=1e-4))


def _straight(tensors: dict[str, str]) -> dict[str, str]:
    """Each tensor with the last one of those that stand for one another, which come earlier each."""
    result = {}
    for name, other in tensors.items():
        while other in tensors:
            other = tensors[other]
        result[name] = other
    return result
