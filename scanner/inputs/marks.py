"""What a model file says itself of its pixels: scaling at its start, biases that take off a mean, running statistics."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from banscan.importers import TracedModel, attribute_named
from banscan.scanner.inputs.preprocess import Preprocess

aten = torch.ops.aten

# how far apart black and white are for a network behind its own scaling: 1 for pixels from 0 to 1, 4.5 for ImageNet's deviation
CONTRASTS = (0.9, 5.0)
# biases tell a mean where they explain so much of each other's variance, so many standard errors from 0, in so many channels; they tell
# less than all of it, and the images may be a little darker or brighter
EXPLAINED, CERTAIN, CHANNELS, NEAR = 0.75, 5.0, 16, 2.5
# the first so many normalisations are looked at; statistics fit where the divergence is below the second number
NORMS, FIT = 4, 1.0
# a candidate is unlike the statistics where it diverges so many times as far as the best, and by this much more
TIMES, MORE = 4.0, 0.1
# what only hands the image on
PASSING = {aten.permute.default, aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.squeeze.dim, aten.unsqueeze.default}
AFFINE = {aten.sub.Tensor, aten.add.Tensor, aten.mul.Tensor, aten.div.Tensor}


@torch.no_grad()
def unlike(model: TracedModel, candidates: dict[str, Preprocess], images: np.ndarray) -> dict[str, str]:
    """The candidates that the file speaks against, each with what does: the file's scaling, biases or statistics.

    Args:
        images: uint8 [N, H, W, C], a few; they should be much like those that the model was trained on.
    """
    found: dict[str, str] = {}
    for what, names in (
        ("the file's own scaling", _scaling(model, candidates)),
        ("the file's first biases", _biases(model, candidates, images)),
        ("the file's running statistics", _statistics(model, candidates, images)),
    ):
        # what speaks against all speaks of other images
        if len(names) < len(candidates):
            found |= {name: what for name in candidates if name in names and name not in found}
    return found if len(found) < len(candidates) else {}


def _scaling(model: TracedModel, candidates: dict[str, Preprocess]) -> set[str]:
    """Where the graph scales the pixels first: those that leave too little or too much contrast behind that."""
    factor = 1.0
    for node in _start(model.module.graph):
        value = _constant(model.module, node.args[1]) if node.target in (aten.mul.Tensor, aten.div.Tensor) else None
        if value is not None:
            mean = float(value.double().abs().mean())
            factor *= mean if node.target is aten.mul.Tensor else 1 / mean
    if factor == 1:
        return set()
    low, high = CONTRASTS
    return {name for name, c in candidates.items() if not low <= factor * c.contrast <= high}


def _biases(model: TracedModel, candidates: dict[str, Preprocess], images: np.ndarray) -> set[str]:
    """Where the biases of the first convolution take off a mean, as a normalisation folded into it does: those with another mean.

    Such a bias is shift - mean * sum(weights) for each channel, so that the slope of biases over sums is the mean, with its sign turned.
    """
    start = _start(model.module.graph)
    layer = start[-1] if start else None
    if layer is None or layer.target is not aten.conv2d.default or any(n.target in AFFINE for n in start):
        return set()
    weight, bias = (_constant(model.module, a) for a in (*layer.args[1:3], None)[:2])
    if weight is None or bias is None or len(bias) < CHANNELS:
        return set()
    x, y = weight.double().flatten(1).sum(1).cpu(), bias.double().cpu()
    x, y = x - x.mean(), y - y.mean()
    power = float(x.square().sum())
    if not power or not float(y.square().sum()):
        return set()
    slope = float((x * y).sum()) / power
    rest = float((y - slope * x).square().sum())
    error = (rest / (len(x) - 2) / power) ** 0.5
    if 1 - rest / float(y.square().sum()) < EXPLAINED or abs(slope) < CERTAIN * error:
        return set()
    means = {name: float(c(images, "NHWC").mean()) for name, c in candidates.items()}
    return {name for name, mean in means.items() if not 1 / NEAR <= -slope / (mean or 1e-9) <= NEAR}


@dataclass(frozen=True)
class _Norm:
    """What a node's values were like in training: means and variances [channels]."""

    node: fx.Node
    mean: Tensor
    variance: Tensor


def _statistics(model: TracedModel, candidates: dict[str, Preprocess], images: np.ndarray) -> set[str]:
    """Where the file has running statistics: those under which the first of them are far from what the images give."""
    norms = [norm for _, norm in zip(range(NORMS), _norms(model), strict=False)]
    if not norms:
        return set()
    found = {name: _divergence(model, norms, c(images, model.input.layout)) for name, c in candidates.items()}
    best = min(found.values())
    if not best < FIT:
        return set()
    return {name for name, value in found.items() if value > max(TIMES * best, best + MORE)}


def _norms(model: TracedModel) -> Iterator[_Norm]:
    """Normalisations in execution order, whether they are nodes or were folded into the layer before them as the file was read."""
    for node in model.module.graph.nodes:
        if node.target is aten.batch_norm.default:
            mean, variance = (_constant(model.module, a) for a in node.args[3:5])
            if mean is not None and variance is not None:
                yield _Norm(node.args[0], mean, variance)
        folding = model.foldings.get(str(getattr(node.args[2], "target", ""))) if len(node.args) > 2 else None
        # weight, bias, the norm's own weight and bias, its mean and variance, and what is added to that
        if folding is not None and len(folding.args) == 7 and set(folding.parts) & model.statistics:
            parts = [None if a is None else attribute_named(model.module, folding.parts[a.index]) for a in folding.args[:6]]
            variance = parts[5] / (parts[5] + folding.args[6])
            gain = torch.ones_like(variance) if parts[2] is None else parts[2]
            yield _Norm(node, torch.zeros_like(variance) if parts[3] is None else parts[3], gain.square() * variance)


class _Tap(fx.Interpreter):
    """Runs a graph until the values of some nodes are known."""

    def __init__(self, module: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(module)
        self.wanted, self.found = wanted, dict[fx.Node, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.wanted:
            self.found[n] = value
            if len(self.found) == len(self.wanted):
                raise StopIteration
        return value


def _divergence(model: TracedModel, norms: list[_Norm], x: Tensor) -> float:
    """The Kullback-Leibler divergence of two normal distributions, what the images give from what training gave; the median of medians."""
    tap = _Tap(model.module, {norm.node for norm in norms})
    with suppress(StopIteration):
        tap.run(x.to(model.device))
    values = []
    for norm in norms:
        given = tap.found[norm.node].double().movedim(1, 0).flatten(1)
        mean, variance = norm.mean.double(), norm.variance.double()
        variance = variance + 1e-2 * variance.median().clamp(min=1e-9)
        ratio = (given.var(1, correction=0) / variance).clamp(min=1e-6)
        values.append(0.5 * ((given.mean(1) - mean).square() / variance + ratio - 1 - ratio.log()).median())
    return float(torch.stack(values).median().nan_to_num(nan=torch.inf))


def _start(graph: fx.Graph) -> list[fx.Node]:
    """What becomes of the image up to the first node that does more than pass it on or scale it, which is the last."""
    node = next(n for n in graph.nodes if n.op == "placeholder")
    found: list[fx.Node] = []
    while True:
        readers = [n for n in node.users if n.target is not aten.sym_size.int]
        if len(readers) != 1 or readers[0].op != "call_function":
            return found
        node = readers[0]
        found.append(node)
        if node.target not in PASSING and node.target not in AFFINE:
            return found


def _constant(module: fx.GraphModule, value: object) -> Tensor | None:
    """A number, or a constant of the graph; None for anything else."""
    if isinstance(value, int | float):
        return torch.tensor(float(value))
    return attribute_named(module, str(value.target)) if isinstance(value, fx.Node) and value.op == "get_attr" else None
