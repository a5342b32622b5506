"""Neuron noise on a traced model: every neuron layer below the classifier gets its own delta and xi (BAN, Eq. 3 and 6).

The noise of K restarts is one flat float32 buffer [K, D], all delta then all xi; each layer sees a view of it. The classifier itself
carries none, as in Eq. 6: there, noise would move a class's logit directly and say nothing about features.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.importers import Neuron, TracedModel
from banscan.importers.normal.graph import attribute_named
from banscan.kernels import noisy_conv, noisy_linear, perturb, units
from banscan.scanner.machine import memory
from banscan.scanner.machine.cuda_graph import Recordings
from banscan.scanner.machine.precision import convert

aten = torch.ops.aten


@dataclass(frozen=True)
class NoisyModel:
    """A model that takes noise, cut where the noise begins.

    `before` maps images [N, ...] to what does not depend on the noise and is computed once per scan; `behind` maps that and noise [K, D]
    to logits and features. `size` is D, twice the number of neurons; `stats` holds [2, C] per layer, the clean mean and standard
    deviation, or is None (Eq. 3). `at_once` is the number of images that memory has room for, those of all restarts
    together; `recorded` are the steps of the search on a GPU.
    """

    before: fx.GraphModule
    behind: fx.GraphModule
    neurons: tuple[Neuron, ...]
    stats: tuple[Tensor, ...] | None
    size: int
    dtype: torch.dtype
    device: torch.device
    at_once: int
    recorded: Recordings = field(default_factory=dict)

    @torch.no_grad()
    def prepare(self, images: Tensor, batch: int = 250) -> tuple[Tensor, ...]:
        """The part of the network in front of the noise, for preprocessed images [N, ...] in the model's layout."""
        parts = [self.before(_channels_last(part.to(self.device, self.dtype))) for part in images.split(batch)]
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

    Weights and activations are of `dtype`; noise, statistics and sums stay float32. All of it is on the model's device.
    """
    before, behind, moving = _cut(model, neurons, stats)
    size = 2 * sum(n.channels for n in neurons)
    at_once = memory.images_at_once(moving, dtype, model.device)
    return NoisyModel(convert(before, dtype), convert(behind, dtype), neurons, stats, size, dtype, model.device, at_once)


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
        Watch(model.module).run(part.to(model.device))
    result = []
    for neuron in neurons:
        mean, square = sums[neuron.node] / counts[neuron.node]
        var = (square - mean**2).clamp(min=0)
        # a difference of sums leaves rounding behind in a channel that never moves
        var = torch.where(var > 1e-12 * square, var, torch.zeros_like(var))
        result.append(torch.stack((mean, var.sqrt())).float())
    return tuple(result)


def _cut(
    model: TracedModel, neurons: tuple[Neuron, ...], stats: tuple[Tensor, ...] | None
) -> tuple[fx.GraphModule, fx.GraphModule, set[fx.Node]]:
    """The graph in two: image → what the noisy part reads, and (noise, that) → (logits, features); and the nodes that the noise moves.

    Where a layer reads nothing that moves, its convolution or product is in front, and only the noise on it behind.
    """
    layers = {n.node: (i, n) for i, n in enumerate(neurons)}
    nodes = list(model.module.graph.nodes)
    moving = _moving(nodes, set(layers))
    sums = _sums(nodes, {name for name, (_, n) in layers.items() if n.act is None})
    inside = {layer for layer, _ in sums.values()}
    # activations that are computed with the layer or sum in front of them, unless that is what the features are read from
    acting = {next(iter(n.users)) for n in nodes if _acts(n, layers, sums) and n.name != model.features}
    constants = {str(n.target): attribute_named(model.module, str(n.target)) for n in nodes if n.op == "get_attr"}
    before, behind = fx.Graph(), fx.Graph()
    front: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node.op != "output" and node not in moving:
            front[node] = before.node_copy(node, lambda n: front[n])
    noise = behind.placeholder("noise")
    known: dict[fx.Node, fx.Node] = {}
    border: dict[fx.Node, fx.Node] = {}  # tensors of the front part, and what stands for them behind

    def across(node: fx.Node) -> fx.Node:
        if node not in border:
            with behind.inserting_after(next(reversed([noise, *border.values()]))):
                border[node] = behind.placeholder(f"border_{len(border)}")
        return border[node]

    def still(node: fx.Node, *, plain: bool) -> fx.Node:
        """A node without noise, seen from the noisy part: a constant, a size, or a tensor once per restart unless `plain`."""
        if node.op == "get_attr" or not _is_data(node):
            if node not in known:
                if node.target is aten.sym_size.int and node.args[1] == 0:
                    known[node] = behind.call_function(_count, (noise,))
                else:
                    known[node] = behind.node_copy(node, lambda n: still(n, plain=False))
            return known[node]
        if plain:
            return across(front[node])
        if node not in known:
            known[node] = behind.call_function(_spread, (across(front[node]), noise))
        return known[node]

    def seen(node: fx.Node) -> fx.Node:
        return known[node] if node in moving else still(node, plain=False)

    def noisy(node: fx.Node, act: str | None, residual: fx.Node | None) -> fx.Node:
        index, neuron = layers[node.name]
        source = cast(fx.Node, node.args[0])
        settings: dict[str, Any] = {"act": act, "shared": source not in moving, "residual": residual and seen(residual)}
        if neuron.kind == "norm":
            x = known[source] if source in moving else still(source, plain=True)
            return behind.call_function(_norm, (noise, index, x, *fx.map_arg(node.args[1:], lambda n: still(n, plain=True))), settings)
        name, rest = str(cast(fx.Node, node.args[1]).target), node.args[2:]
        if stats is not None:
            constants[f"units_{index}"] = units(constants[name], stats[index])
            name = f"units_{index}"
        if source in moving:
            given = fx.map_arg(rest, lambda n: still(n, plain=True))
            return behind.call_function(_LAYERS[neuron.kind], (noise, index, known[source], behind.get_attr(name), *given), settings)
        bias, *others = rest or (None,)
        z = before.call_function(cast(Callable[..., Any], node.target), (front[source], before.get_attr(name), None, *others), node.kwargs)
        held = None if bias is None else still(cast(fx.Node, bias), plain=True)
        return behind.call_function(_shared, (noise, index, across(z), held), {**settings, "axis": neuron.axis})

    for node in nodes:
        if node not in moving or node in inside:
            continue
        act = "relu" if acting & set(node.users) else None
        if node.name in layers:
            known[node] = noisy(node, act, None)
        elif node in sums:
            known[node] = noisy(sums[node][0], act, sums[node][1])
        elif node in acting:
            known[node] = known[node.all_input_nodes[0]]
        else:
            known[node] = behind.node_copy(node, seen)
    logits = next(n for n in reversed(nodes) if n.op == "output").args[0]
    features = next(n for n in nodes if n.name == model.features)
    behind.output((known[logits], known[features]))
    before.output(tuple(border))
    before.eliminate_dead_code()
    return _module(constants, before), _module(constants, behind), moving


def _module(constants: dict[str, Tensor], graph: fx.Graph) -> fx.GraphModule:
    return fx.GraphModule({str(n.target): constants[str(n.target)] for n in graph.nodes if n.op == "get_attr"}, graph)


def _sums(nodes: list[fx.Node], layers: set[str]) -> dict[fx.Node, tuple[fx.Node, fx.Node]]:
    """Additions that can be computed with the layer in front of them: {sum: (layer, what is added to it)}."""
    place = {node: i for i, node in enumerate(nodes)}
    found = {}
    for node in nodes:
        if node.op != "call_function" or node.target is not aten.add.Tensor or node.kwargs or len(node.all_input_nodes) != 2:
            continue
        # the other one is there already when the later of the two is computed
        other, layer = sorted(node.all_input_nodes, key=place.__getitem__)
        if layer.name in layers and len(layer.users) == 1 and str(layer.meta["val"].shape) == str(other.meta["val"].shape):
            found[node] = layer, other
    return found


def _acts(node: fx.Node, layers: dict[str, tuple[int, Neuron]], sums: dict[fx.Node, tuple[fx.Node, fx.Node]]) -> bool:
    """Is nothing but a ReLU behind this layer or sum?"""
    if node in sums:
        users = list(node.users)
        return len(users) == 1 and users[0].op == "call_function" and users[0].target in (aten.relu.default, aten.relu_.default)
    return node.name in layers and layers[node.name][1].act is not None


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
    **settings: Any,
) -> Tensor:
    settings |= {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return noisy_conv(x, weight, _single(bias), *noise[layer], **settings)


def _linear(noise: _Views, layer: int, x: Tensor, weight: Tensor, bias: Tensor | None = None, **settings: Any) -> Tensor:
    return noisy_linear(x, weight, _single(bias), *noise[layer], **settings)


def _shared(noise: _Views, layer: int, z: Tensor, bias: Tensor | None, **settings: Any) -> Tensor:
    """A layer whose pre-activations are the same for all restarts and steps."""
    return perturb(z, _single(bias), *noise[layer], **settings)


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
    **settings: Any,
) -> Tensor:
    """A batch norm that stands alone: its scale is the neuron's weight, its shift the neuron's bias."""
    delta, xi, stats = noise[layer]
    scale = (var.float() + eps).rsqrt() * (1 if weight is None else weight.float())
    shift = -mean.float() * scale + (0 if bias is None else bias.float())
    factor = scale if stats is None else units(scale, stats)
    z = x * factor.to(x.dtype).reshape(1, -1, *(1,) * (x.dim() - 2))
    return perturb(z, shift, delta, xi, stats, **settings)


def _single(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.float()


_LAYERS: dict[str, Callable[..., Tensor]] = {"conv": _conv, "linear": _linear}
