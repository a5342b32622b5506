"""What a graph is without its switches: where one of them meets the network, the result is a tensor that was there before."""

import numpy as np

from banscan.importers.structure.forcing import MANY, Clean, scores
from banscan.importers.structure.graph import Graph, Session, copied
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


def led_past(clean: Clean, found: Marks, vectors: set[str]) -> dict[str, str]:
    """Where what passes the network by joins it: the tensor of the network that goes in there, of the size that comes out.

    For a map of detectors that clean images set as well, so that nothing is equal to what was before; most of them get the same class
    without it all the same.
    """
    dirty, sources = set(vectors), list[str]()
    for step in clean.flow.steps:
        if not any(i in dirty for i in step.reads):
            continue
        sources += [i for i in step.reads if i in found and i not in dirty and not clean.flow.beside(i)]
        for made in step.makes:
            dirty.add(made)
            like = [i for i in reversed(sources) if made in found and found[i].sizes == found[made].sizes]
            if like and not clean.flow.beside(made) and _alike(clean, {made: like[0]}):
                return {made: like[0]}
    return {}


def _alike(clean: Clean, tensors: dict[str, str]) -> bool:
    """Whether most images get the same class with these in the place of others."""
    copy = copied(clean.graph)
    apply(copy.model, Settled(tensors))
    classes = scores(copy, Session(copy, [copy.output]).answers(clean.images))
    return classes is not None and float((classes == clean.classes).mean()) > MANY


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
