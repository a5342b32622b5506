"""Scores that one linear layer gives several views of an image, averaged behind it: those of the layer on the mean of the views' features.

sum_i c_i (W f_i + b) = s (W (sum_i c_i f_i / s) + b) with s = sum_i c_i, so that a mean, for which s is 1, leaves the layer as it is.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import fx

from banscan.errors import ModelError
from banscan.importers.model import Folding, output_node
from banscan.importers.normal.constants import scalar
from banscan.importers.normal.penultimate import depends_on, pretty, shape

aten = torch.ops.aten

SUMS: dict[Any, int] = {aten.add.Tensor: 1, aten.sub.Tensor: -1}
SCALES = frozenset({aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar, aten.neg.default})
REDUCED = frozenset({aten.mean.dim, aten.sum.dim_IntList})
JOINED = frozenset({aten.stack.default, aten.cat.default})
COMBINING = frozenset({*SUMS, *SCALES, *REDUCED, *JOINED, aten.unsqueeze.default, aten.squeeze.dim})


@dataclass(frozen=True)
class _Mean:
    """`factor` times what the layer gives for `features`."""

    features: fx.Node
    factor: float


def check_batch(module: fx.GraphModule) -> None:
    """Raises ModelError where several views of an image stand in one batch: then its rows are not the images any more."""
    image = next(n for n in module.graph.nodes if n.op == "placeholder")
    data = depends_on(module.graph, image)
    for node in module.graph.nodes:
        if node in data and node.target is aten.cat.default:
            parts, axis = [n for n in cast(Any, node.args[0]) if n in data], int(cast(Any, node.args[1] if len(node.args) > 1 else 0))
            if len(parts) > 1 and not isinstance(shape(parts[0])[axis], int):
                raise ModelError(
                    f"{node.name} puts several views of each image into one batch ({pretty(shape(node))}); export the model with one view, "
                    "or with the network applied to each view in turn"
                )


def average_features(module: fx.GraphModule, foldings: dict[str, Folding]) -> None:
    """Puts the mean in front of the layer, where the logits are nothing but sums of what one layer gives several times."""
    logits = cast(fx.Node, output_node(module.graph).args[0])
    reached = _reached(logits)
    layers = [n for n in reached if n.target is aten.linear.default]
    if len(layers) < 2 or not all(_same(foldings, layer, layers[0]) for layer in layers):
        return
    means: dict[fx.Node, _Mean] = {}
    for node in reached:
        with module.graph.inserting_before(node):
            found = _Mean(cast(fx.Node, node.args[0]), 1.0) if node in layers else _combined(module, means, node)
        if found is None:
            return
        means[node] = found
    mean = means[logits]
    if [str(s) for s in shape(mean.features)[:-1]] != [str(s) for s in shape(logits)[:-1]]:
        return
    with module.graph.inserting_before(logits):
        made = module.graph.call_function(aten.linear.default, (mean.features, *layers[0].args[1:]))
        made.meta["val"] = logits.meta["val"]
        if mean.factor != 1:
            made = _new(module, aten.mul.Tensor, made, mean.factor)
    output_node(module.graph).args = (made,)


def _reached(logits: fx.Node) -> list[fx.Node]:
    """The layers that the logits are sums of, and what is between, in the order of the graph; none where anything else is among them."""
    seen: set[fx.Node] = set()
    waiting = [logits]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.target in COMBINING:
            waiting += [i for i in node.all_input_nodes if i.op != "get_attr"]
        elif node.target is not aten.linear.default:
            return []
    return [n for n in logits.graph.nodes if n in seen]


def _same(foldings: dict[str, Folding], first: fx.Node, second: fx.Node) -> bool:
    """Whether two linear layers have their weight and bias from the same constants of the file."""

    def origins(layer: fx.Node) -> Iterator[object]:
        for node in layer.args[1:]:
            name = str(node.target) if isinstance(node, fx.Node) else None
            yield name if name is None else foldings.get(name, name)

    constant = all(n is None or (isinstance(n, fx.Node) and n.op == "get_attr") for n in first.args[1:])
    return constant and list(origins(first)) == list(origins(second))


def _combined(module: fx.GraphModule, means: dict[fx.Node, _Mean], node: fx.Node) -> _Mean | None:
    """One step behind the layer as a step in front of it; None where it is none."""
    target: Any = node.target
    new = partial(_new, module)
    if target in SUMS:
        return _added(module, means, node)
    if target in JOINED:
        parts = [means[n] for n in cast(Any, node.args[0])]
        axis = int(cast(Any, node.args[1] if len(node.args) > 1 else 0)) % len(shape(node))
        if axis == len(shape(node)) - 1 or len({p.factor for p in parts}) > 1:
            return None
        return _Mean(new(target, [p.features for p in parts], axis), parts[0].factor)
    own = means.get(cast(fx.Node, node.args[0]))
    if own is None:  # a constant divided by them
        return None
    if target in SCALES:
        factor = -1.0 if len(node.args) == 1 else scalar(module, node.args[1])
        if not factor or node.kwargs:
            return None
        return _Mean(own.features, own.factor / factor if target in (aten.div.Tensor, aten.div.Scalar) else own.factor * factor)
    rank = len(shape(node.args[0]))
    axes = cast(Any, node.args[1])
    axes = [a % (rank + (target is aten.unsqueeze.default)) for a in (axes if isinstance(axes, list | tuple) else [axes])]
    if target in REDUCED:
        sizes = [shape(node.args[0])[a] for a in axes]
        if not axes or rank - 1 in axes or node.kwargs or not all(isinstance(s, int) and s > 0 for s in sizes):
            return None
        count = math.prod(sizes) if target is aten.sum.dim_IntList else 1
        return _Mean(new(aten.mean.dim, own.features, axes, *node.args[2:]), own.factor * count)
    # an axis of one
    last = rank if target is aten.unsqueeze.default else rank - 1
    return None if last in axes else _Mean(new(target, own.features, axes[0]), own.factor)


def _added(module: fx.GraphModule, means: dict[fx.Node, _Mean], node: fx.Node) -> _Mean | None:
    first, second = cast(Any, node.args[:2])
    if node.kwargs or (first not in means and second not in means):
        return None
    if first not in means or second not in means:
        kept, other = (first, second) if first in means else (second, first)
        return means[kept] if scalar(module, other) == 0 and kept is first else None
    a, b = means[first], means[second]
    own = SUMS[node.target] * b.factor
    total = a.factor + own
    if abs(total) < 1e-6 * abs(own) or [str(s) for s in shape(first)] != [str(s) for s in shape(second)]:
        return None
    parts = [_new(module, aten.mul.Tensor, m.features, factor / total) for m, factor in ((a, a.factor), (b, own))]
    return _Mean(_new(module, aten.add.Tensor, *parts), total)


def _new(module: fx.GraphModule, target: Any, *args: Any) -> fx.Node:
    """A node with its sizes."""
    node = module.graph.call_function(target, args)
    given = fx.map_arg(args, lambda n: n.meta["val"])
    node.meta["val"] = target(*given)
    return node
