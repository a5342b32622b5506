"""Which of several outputs holds the scores of the classes, told by what each is computed from."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from banscan.importers.model import output_node
from banscan.importers.normal.penultimate import depends_on, shape

WEIGHTED = frozenset({"linear", "conv1d", "conv2d", "conv3d", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum"})


@dataclass(frozen=True)
class Candidate:
    """An output.

    Attributes:
        name: of the output, for the user.
        tensor: the tensor that it is, or that its scores stand in.
        sizes: of the tensor, the batch first, None for a free one; None where they are not known.
        floating: whether it holds numbers that are no integers.
        largest: whether it is the largest score of an image, and says nothing of the others.
    """

    name: str
    tensor: str
    sizes: tuple[int | None, ...] | None
    floating: bool
    largest: bool = False


def choose(candidates: Sequence[Candidate], made_from: Mapping[str, Sequence[str]], weighted: Collection[str]) -> Candidate | None:
    """The output that holds the logits, or what is computed from them alone; None where several could be meant.

    Features are what layers with weights make others from; probabilities and labels are what no such layer makes of others.

    Args:
        made_from: tensor → the tensors that it is computed from.
        weighted: tensors that a layer with constant weights gives.
    """
    if len(candidates) == 1:
        return candidates[0]
    floats = [c for c in candidates if c.floating and not c.largest]
    left = [c for c in floats if _per_class(c)] or [c for c in floats if _wide(c) == 0] or [c for c in candidates if not _is_map(c)]
    above = {c: _above(c.tensor, made_from) for c in left}
    layers = {c: {t for t in (*above[c], c.tensor) if t in weighted} for c in left}
    for a in list(left):
        for b in left:
            further = layers[b] - layers[a]
            # features: b needs all that a needs, and has layers of its own behind
            if a is not b and layers[a] < layers[b] and (a.tensor in above[b] or _apart(a, b, above, layers)):
                left.remove(a)
                break
            # probabilities: made of b, and of no further layer
            if b.tensor in above[a] and not (layers[a] - layers[b]) and not further:
                left.remove(a)
                break
    named = [c for c in left if "aux" not in c.name.lower()]
    left = named if len(named) == 1 else left
    if len(left) > 1 and all(layers[c] == layers[left[0]] for c in left):
        # all of them made of the same logits, which are no output themselves
        left = sorted(left, key=lambda c: (c.largest, -max((s for s in (c.sizes or ())[1:] if s is not None), default=0)))[:1]
    return left[0] if len(left) == 1 else None


def _apart(a: Candidate, b: Candidate, above: Mapping[Candidate, set[str]], layers: Mapping[Candidate, set[str]]) -> bool:
    """Whether the last layers that an output is made with lie above the other one, too: scaled features beside a classifier."""
    return bool(layers[a]) and layers[a] <= above[b]


def _above(tensor: str, made_from: Mapping[str, Sequence[str]]) -> set[str]:
    """All that a tensor is computed from."""
    found: set[str] = set()
    waiting = list(made_from.get(tensor, ()))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += made_from.get(name, ())
    return found


def _wide(candidate: Candidate) -> int:
    """How many axes beside the batch may be longer than 1."""
    return sum(s != 1 for s in (candidate.sizes or ())[1:])


def _per_class(candidate: Candidate) -> bool:
    """Whether it may have a value for every class."""
    return candidate.sizes is None or (_wide(candidate) == 1 and len(candidate.sizes) > 1)


def _is_map(candidate: Candidate) -> bool:
    return candidate.sizes is not None and _wide(candidate) > 1


def among(module: fx.GraphModule, names: Sequence[str]) -> int | None:
    """The place of the output that holds the logits, of a traced graph that returns several, called so; None where it is not clear."""
    outputs = list(_flat(output_node(module.graph).args[0]))
    image = next(n for n in module.graph.nodes if n.op == "placeholder")
    data = depends_on(module.graph, image)
    candidates = [
        Candidate(
            name,
            node.name,
            tuple(s if isinstance(s, int) else None for s in shape(node)),
            isinstance(node.meta.get("val"), torch.Tensor) and node.meta["val"].is_floating_point(),
        )
        for name, node in zip(names, outputs, strict=True)
    ]
    made_from = {n.name: [i.name for i in n.all_input_nodes] for n in module.graph.nodes if n in data}
    weighted = {n.name for n in data if _name(n) in WEIGHTED and any(i not in data for i in n.all_input_nodes)}
    found = choose(candidates, made_from, weighted)
    return None if found is None else candidates.index(found)


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0]


def _flat(value: object) -> Iterator[fx.Node]:
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
