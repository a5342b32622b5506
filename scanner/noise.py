"""Neuron noise on a traced model: every neuron layer below the classifier gets its own delta and xi (BAN, Eq. 3 and 6).

The noise of K restarts is one flat float32 buffer [K, D], all delta then all xi; each layer sees a view of it. The classifier itself
carries none, as in Eq. 6: there, noise would move a class's logit directly and say nothing about features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.importers import Neuron, TracedModel
from banscan.kernels import noisy_conv2d, noisy_linear, perturb
from banscan.scanner.precision import convert

aten = torch.ops.aten


@dataclass(frozen=True)
class NoisyModel:
    """A model that takes noise, cut where the noise begins.

    `before` maps images [N, ...] to what does not depend on the noise and is computed once per scan; `behind` maps that and noise [K, D]
    to logits and features. `size` is D, twice the number of neurons; `stats` holds [2, C] per layer, the clean mean and standard
    deviation, or is None (Eq. 3).
    """

    before: fx.GraphModule
    behind: fx.GraphModule
    neurons: tuple[Neuron, ...]
    stats: tuple[Tensor, ...] | None
    size: int
    dtype: torch.dtype

    @torch.no_grad()
    def prepare(self, images: Tensor, batch: int = 250) -> tuple[Tensor, ...]:
        """The part of the network in front of the noise, for preprocessed images [N, ...] in the model's layout."""
        parts = [self.before(_channels_last(part.to(self.dtype))) for part in images.split(batch)]
        return tuple(_channels_last(torch.cat(column)) for column in zip(*parts, strict=True))

    def run(self, prepared: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [K * N, classes] and features [K * N, ...] under noise [K, D]; the restarts are the outer part of the batch."""
        count = len(noise) * len(prepared[0])
        logits, features = self.behind(_Views(noise, self.neurons, self.stats, count), *prepared)
        return logits.float(), features


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


class _Views:
    """Layer by layer views of a flat noise buffer; `count` is the whole batch, K * N."""

    def __init__(self, noise: Tensor, neurons: tuple[Neuron, ...], stats: tuple[Tensor, ...] | None, count: int) -> None:
        sizes = [n.channels for n in neurons]
        half = noise.shape[1] // 2
        self.restarts, self.count = noise.shape[0], count
        self.delta, self.xi = noise[:, :half].split(sizes, 1), noise[:, half:].split(sizes, 1)
        self.stats: tuple[Tensor | None, ...] = stats or (None,) * len(neurons)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.delta[layer], self.xi[layer], self.stats[layer]


def layers(model: TracedModel, depth: float) -> tuple[Neuron, ...]:
    """The neuron layers below the classifier without the first `depth` share of them; 0 takes all, as the paper does."""
    below = [n for n in model.neurons if n.node not in model.classifier]
    return tuple(below[int(depth * len(below)) :])


def attach(
    model: TracedModel, neurons: tuple[Neuron, ...], stats: tuple[Tensor, ...] | None, dtype: torch.dtype = torch.float32
) -> NoisyModel:
    """Gives neuron layers their noise: normalised with the `stats` of `measure`, or Eq. 3 without.

    Weights and activations are of `dtype`; noise, statistics and sums stay float32.
    """
    before, behind = _cut(model, neurons)
    return NoisyModel(convert(before, dtype), convert(behind, dtype), neurons, stats, 2 * sum(n.channels for n in neurons), dtype)


@torch.no_grad()
def measure(model: TracedModel, neurons: tuple[Neuron, ...], images: Tensor, batch: int = 250) -> tuple[Tensor, ...]:
    """Mean and standard deviation [2, C] of every neuron's pre-activation on clean images, summed in float64."""
    wanted = {n.node: n.axis for n in neurons}
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.name in wanted:
                flat = value.movedim(wanted[n.name], -1).reshape(-1, value.shape[wanted[n.name]]).double()
                sums[n.name] = sums.get(n.name, 0) + torch.stack((flat.sum(0), flat.square().sum(0)))
                counts[n.name] = counts.get(n.name, 0) + len(flat)
            return value

    for part in images.split(batch):
        Watch(model.module).run(part)
    result = []
    for neuron in neurons:
        mean, square = sums[neuron.node] / counts[neuron.node]
        var = (square - mean**2).clamp(min=0)
        # a difference of sums leaves rounding behind in a channel that never moves
        var = torch.where(var > 1e-12 * square, var, torch.zeros_like(var))
        result.append(torch.stack((mean, var.sqrt())).float())
    return tuple(result)


def _cut(model: TracedModel, neurons: tuple[Neuron, ...]) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The graph in two: image → what the noisy part reads, and (noise, that) → (logits, features)."""
    layers = {n.node: (i, n) for i, n in enumerate(neurons)}
    nodes = list(model.module.graph.nodes)
    moving = _moving(nodes, set(layers))
    before, behind = fx.Graph(), fx.Graph()
    front: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node.op != "output" and node not in moving:
            front[node] = before.node_copy(node, lambda n: front[n])
    noise = behind.placeholder("noise")
    known: dict[fx.Node, fx.Node] = {}
    border: dict[fx.Node, fx.Node] = {}  # tensors without noise that the noisy part reads

    def still(node: fx.Node, *, plain: bool) -> fx.Node:
        """A node without noise, seen from the noisy part: a constant, a size, or a tensor once per restart unless `plain`."""
        if node.op == "get_attr" or not _is_data(node):
            if node not in known:
                if node.target is aten.sym_size.int and node.args[1] == 0:
                    known[node] = behind.call_function(_count, (noise,))
                else:
                    known[node] = behind.node_copy(node, lambda n: still(n, plain=False))
            return known[node]
        if node not in border:
            with behind.inserting_after(next(reversed([noise, *border.values()]))):
                border[node] = behind.placeholder(f"border_{len(border)}")
        if plain:
            return border[node]
        if node not in known:
            known[node] = behind.call_function(_spread, (border[node], noise))
        return known[node]

    for node in nodes:
        if node not in moving:
            continue
        if node.name in layers:
            index, neuron = layers[node.name]
            source = cast(fx.Node, node.args[0])
            x = known[source] if source in moving else still(source, plain=True)
            rest = fx.map_arg(node.args[1:], lambda n: still(n, plain=True))
            settings: dict[str, Any] = {"act": neuron.act, "shared": source not in moving}
            known[node] = behind.call_function(_LAYERS[neuron.kind], (noise, index, x, *rest), settings)
        elif any(i.name in layers and layers[i.name][1].act for i in node.all_input_nodes):
            known[node] = known[node.all_input_nodes[0]]  # the activation is inside the layer
        else:
            known[node] = behind.node_copy(node, lambda n: known[n] if n in moving else still(n, plain=False))
    logits = next(n for n in reversed(nodes) if n.op == "output").args[0]
    features = next(n for n in nodes if n.name == model.features)
    behind.output((known[logits], known[features]))
    before.output(tuple(front[n] for n in border))
    before.eliminate_dead_code()
    return fx.GraphModule(model.module, before), fx.GraphModule(model.module, behind)


def _is_data(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor | tuple | list) or node.op == "placeholder"


def _moving(nodes: list[fx.Node], layers: set[str]) -> set[fx.Node]:
    """The tensors that depend on the noise; sizes do not."""
    moving: set[fx.Node] = set()
    for node in nodes:
        if node.name in layers or (node.op == "call_function" and _is_data(node) and any(i in moving for i in node.all_input_nodes)):
            moving.add(node)
    return moving


def _count(noise: _Views) -> int:
    return noise.count


def _spread(value: Tensor, noise: _Views) -> Tensor:
    """[N, ...] once for every restart: [K * N, ...]."""
    return value.repeat(noise.restarts, *(1,) * (value.dim() - 1))


def _conv(
    noise: _Views,
    layer: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    act: str | None,
    shared: bool,
) -> Tensor:
    delta, xi, stats = noise[layer]
    own = None if bias is None else bias.float()
    if weight.dim() == 4:
        settings: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return noisy_conv2d(x, weight, own, delta, xi, stats, act, shared=shared, **settings)
    convolve: Any = torch.nn.functional.conv1d if weight.dim() == 3 else torch.nn.functional.conv3d
    return perturb(convolve(x, weight, None, stride, padding, dilation, groups), own, delta, xi, stats, act, shared=shared)


def _linear(noise: _Views, layer: int, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, act: str | None, shared: bool) -> Tensor:
    own = None if bias is None else bias.float()
    return noisy_linear(x, weight, own, *noise[layer], act, shared=shared)


def _norm(
    noise: _Views,
    layer: int,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
    *,
    act: str | None,
    shared: bool,
) -> Tensor:
    """A batch norm that stands alone: its scale is the neuron's weight, its shift the neuron's bias."""
    scale = (var.float() + eps).rsqrt() * (1 if weight is None else weight.float())
    shift = -mean.float() * scale + (0 if bias is None else bias.float())
    z = x * scale.to(x.dtype).reshape(1, -1, *(1,) * (x.dim() - 2))
    return perturb(z, shift, *noise[layer], act, shared=shared)


_LAYERS: dict[str, Callable[..., Tensor]] = {"conv": _conv, "linear": _linear, "norm": _norm}
