"""The search as one would write it in plain PyTorch: the whole network from the image at every step, one restart after the other.

float32, channels first, weights frozen; the same noise on the same layers as ours, the same steps.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from banscan.importers import Neuron, TracedModel, attribute_named
from banscan.kernels import reference


def perturbed(model: TracedModel, neurons: tuple[Neuron, ...], stats: tuple[Tensor, ...]) -> fx.GraphModule:
    """The model's graph with the normalised noise written out behind every neuron layer: (images, noise [D]) → logits."""
    order = {n.node: i for i, n in enumerate(neurons)}
    places = [0, *accumulate(n.channels for n in neurons)]
    constants: dict[str, Tensor] = {f"stats_{i}": own for i, own in enumerate(stats)}
    graph, known = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in model.module.graph.nodes:
        if node.op == "output":
            graph.output(known[node.args[0]])
            continue
        known[node] = graph.node_copy(node, lambda n: known[n])
        if node.op == "placeholder":
            noise = graph.placeholder("noise")
        elif node.op == "get_attr":
            constants[str(node.target)] = attribute_named(model.module, str(node.target))
        if node.name in order:
            i = order[node.name]
            given = (known[node], noise, places[i], places[-1], graph.get_attr(f"stats_{i}"), neurons[i].axis)
            known[node] = graph.call_function(_noise, given)
    return fx.GraphModule(constants, graph)


def _noise(z: Tensor, noise: Tensor, place: int, half: int, stats: Tensor, axis: int) -> Tensor:
    mean, std = stats
    channels = len(mean)
    shape = [1] * z.dim()
    shape[axis] = channels
    delta, xi = noise[place : place + channels].reshape(shape), noise[half + place : half + place + channels].reshape(shape)
    dims = [d for d in range(z.dim()) if d != axis % z.dim()]
    mu, var = z.mean(dims, keepdim=True), z.var(dims, correction=0, keepdim=True)
    mean, std = mean.reshape(shape), std.reshape(shape)
    result: Tensor = mean + std * (xi + (1 + delta) * (z - mu) / (var + reference.EPS * std**2).sqrt())
    return result


def search(network: Any, images: Tensor, labels: Tensor, noise: Tensor, *, eps: float, steps: int, batch: int) -> Tensor:
    """Untargeted noise [K, D] after PGD in the L2 ball."""
    found = []
    for start in noise:
        own, momentum = start.clone(), torch.zeros_like(start)
        radius = eps * len(own) ** 0.5
        for step in range(steps):
            chosen = torch.arange(step * batch, (step + 1) * batch, device=images.device) % len(images)
            part = own.detach().requires_grad_()
            loss = F.cross_entropy(network(images[chosen], part), labels[chosen], reduction="sum")
            (gradient,) = torch.autograd.grad(loss, part)
            momentum = 0.5 * momentum + gradient / gradient.norm()
            own = own + 2 * radius / steps * momentum / momentum.norm()
            own = own * (radius / own.norm()).clamp(max=1)
        found.append(own)
    return torch.stack(found)


def compiled(network: fx.GraphModule) -> Callable[..., Tensor]:
    """The same network through torch.compile."""
    return cast(Callable[..., Tensor], torch.compile(network))
