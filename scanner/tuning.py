"""Fine-tuning against neuron noise (BAN, Eq. 8), on the file's own weights.

The graph reads folded constants, the file holds what they were folded from. What is trained are the file's weights, and the constants
follow from them at every step (`TracedModel.constants`), so what was tuned can be written back without inverting anything.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import functional_call
from torch.nn import functional as F

from banscan.errors import ModelError
from banscan.importers import Neuron, TracedModel
from banscan.importers.graph import attribute_named

# per layer: mean and deviation [C] of the pre-activations, and delta and xi [C]
Stats = dict[str, tuple[Tensor, Tensor]]
Noise = dict[str, tuple[Tensor, Tensor]]
# keeps the deviation of a channel that never moves, and its gradient, finite
SMALLEST = 1e-8
# a crop after padding by this share of the side, as training uses it
CROP = 8


@dataclass(frozen=True)
class Tuning:
    """Settings of Eq. 8; the defaults are the paper's (Appendix B.4) except where they say otherwise.

    Attributes:
        weight: lambda_2, the weight of the loss under noise; 0 is plain fine-tuning.
        eps, steps: bound of the noise (Eq. 3) and PGD steps that search it anew for every batch.
        flip: mirror images at random.
    """

    epochs: int = 25
    lr: float = 0.005
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight: float = 0.5
    eps: float = 0.3
    steps: int = 1
    batch: int = 128
    flip: bool = False
    seed: int = 0


@dataclass
class State:
    """Where a training is: the file's weights, the momentum of each, the epochs done."""

    weights: dict[str, Tensor]
    momenta: dict[str, Tensor]
    epoch: int = 0


def plain(settings: Tuning) -> Tuning:
    """The same without noise: plain fine-tuning."""
    return replace(settings, weight=0.0)


def suited(settings: Tuning, model: TracedModel, images: Tensor, labels: Tensor, most: float) -> Tuning:
    """The same with mirroring where the model loses at most `most` of its accuracy on mirror images, as on most data but signs and text."""
    axis = 3 if model.input.layout == "NCHW" else 2
    with torch.no_grad():
        own, mirrored = (
            torch.cat([model.logits(part).argmax(1) for part in x.split(250)]).eq(labels).double().mean()
            for x in (images, images.flip(axis))
        )
    return replace(settings, flip=bool(mirrored >= own - most))


def finished(model: TracedModel, state: State, images: Tensor) -> dict[str, Tensor]:
    """The file's weights after the last epoch."""
    return state.weights


def roles(model: TracedModel, neuron: Neuron) -> tuple[str, str | None]:
    """Names of the constants that are a neuron layer's weight and bias in the graph."""
    node = next(n for n in model.module.graph.nodes if n.name == neuron.node)
    bias = node.args[2] if len(node.args) > 2 else None
    return str(node.args[1].target), str(bias.target) if isinstance(bias, fx.Node) else None


def trainable(model: TracedModel) -> dict[str, Tensor]:
    """Copies of the file's weights that neuron layers are made of; running statistics and everything else stay as they are.

    Raises:
        ModelError: a weight that two layers share, which noise and fine-tuning cannot tell apart.
    """
    readers: dict[str, dict[str, list[str]]] = {}
    for neuron in model.neurons:
        for name in roles(model, neuron):
            for part in () if name is None else _parts(model, name) - model.statistics:
                readers.setdefault(part, {}).setdefault(neuron.node, []).append(str(name))
    weights = {name: attribute_named(model.module, name).detach().clone() for name in readers if name in model.source.weights}
    if not weights:
        raise ModelError(f"{model.source.path}: none of its weights can be written back; cannot repair it")
    for name, layers in readers.items():
        if len(layers) > 1 and _overlap(model, name, list(layers.values())):
            told = f"the layers {' and '.join(list(layers)[:2])} share the weight {model.source.weights.get(name, name)!r}"
            raise ModelError(f"{model.source.path}: {told}, which cannot be tuned for one of them alone; cannot repair it")
    return weights


def _overlap(model: TracedModel, name: str, readers: list[list[str]]) -> bool:
    """Do two layers read the same values of a weight? One tensor may hold the weights of several layers, each in a part of its own."""
    leaf = attribute_named(model.module, name).detach().clone().requires_grad_()
    read = torch.zeros(leaf.shape)
    for constants in readers:
        known = model.constants({name: leaf})
        (gradient,) = torch.autograd.grad(sum(known[c].sum() for c in constants), leaf)  # type: ignore[arg-type]
        read += gradient != 0
    return bool((read > 1).any())


def _parts(model: TracedModel, name: str) -> set[str]:
    """What a constant was computed from, down to what the file holds."""
    if name not in model.foldings:
        return {name}
    return {leaf for part in model.foldings[name].parts for leaf in _parts(model, part)}


def logits(model: TracedModel, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Logits [N, classes] with these of the file's weights in place of its own."""
    result: Tensor = functional_call(model.module, model.constants(weights), (images,))
    return result


class _Pass(fx.Interpreter):
    """One pass through the graph with other constants: notes the layers' statistics, or puts noise on them in the normalised form.

    Under noise a layer's pre-activation z is brought to the mean and deviation that it has without, times (1 + delta) and plus xi
    deviations: what batch norm in training mode does in the paper, and what keeps the noise of many layers from multiplying up.
    """

    def __init__(self, model: TracedModel, constants: dict[str, Tensor], layers: dict[str, int], noise: Noise | None, stats: Stats) -> None:
        super().__init__(model.module)
        self.constants, self.layers, self.noise, self.stats = constants, layers, noise, stats

    def fetch_attr(self, target: str) -> Any:
        return self.constants[target] if target in self.constants else super().fetch_attr(target)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name not in self.layers:
            return value
        axis = self.layers[n.name]
        flat = value if axis == 1 else value.flatten(0, -2)
        if self.noise is None:
            var, mean = torch.var_mean(flat, [d for d in range(flat.dim()) if d != 1], correction=0)
            self.stats[n.name] = mean, (var + SMALLEST).sqrt()
            return value
        mean, deviation = self.stats[n.name]
        delta, xi = self.noise[n.name]
        return F.batch_norm(flat, None, None, deviation * (1 + delta), mean + deviation * xi, True, 0.0, SMALLEST).reshape(value.shape)


def noisy_layers(model: TracedModel) -> dict[str, int]:
    """The neuron layers below the classifier (Eq. 6) and the axis of their neurons."""
    return {n.node: n.axis for n in model.neurons if n.node not in model.classifier}


def search(
    model: TracedModel,
    constants: dict[str, Tensor],
    stats: Stats,
    images: Tensor,
    labels: Tensor,
    settings: Tuning,
    generator: torch.Generator,
) -> Noise:
    """Eq. 4 for one batch: sign steps of 2 eps / steps from a random start, clipped to the bound."""
    layers = noisy_layers(model)
    still = {name: value.detach() for name, value in constants.items()}
    fixed = {name: (mean.detach(), deviation.detach()) for name, (mean, deviation) in stats.items()}
    sizes = [len(fixed[name][0]) for name in layers]
    eps = settings.eps
    flat = (torch.rand(2 * sum(sizes), generator=generator) * 2 - 1) * eps
    for _ in range(settings.steps):
        flat = flat.detach().requires_grad_()
        loss = F.cross_entropy(_Pass(model, still, layers, _views(layers, sizes, flat), fixed).run(images), labels)
        (gradient,) = torch.autograd.grad(loss, flat)
        flat = (flat + 2 * eps / settings.steps * gradient.sign()).clamp(-eps, eps).detach()
    return _views(layers, sizes, flat)


def _views(layers: dict[str, int], sizes: list[int], flat: Tensor) -> Noise:
    half = len(flat) // 2
    return dict(zip(layers, zip(flat[:half].split(sizes), flat[half:].split(sizes), strict=True), strict=True))


def augment(images: Tensor, flip: bool, generator: torch.Generator, layout: str) -> Tensor:
    """Random crops after reflection and, if asked for, mirrored halves; images [N, ...] in the model's layout."""
    x = images if layout == "NCHW" else images.movedim(-1, 1)
    count, _, height, width = x.shape
    pads = height // CROP, width // CROP
    padded = F.pad(x, (pads[1], pads[1], pads[0], pads[0]), mode="reflect")
    index = torch.arange(count)[:, None, None]
    rows, columns = (
        torch.randint(0, 2 * pad + 1, (count, 1), generator=generator) + torch.arange(size)
        for pad, size in zip(pads, (height, width), strict=True)
    )
    x = padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    mirrored = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x).contiguous()
    return x if layout == "NCHW" else x.movedim(1, -1).contiguous()


def epoch(
    model: TracedModel, state: State, images: Tensor, labels: Tensor, settings: Tuning, told: Callable[[int], None] = lambda n: None
) -> tuple[float, float]:
    """One pass over the images, in place on `state`; the mean loss on clean images and under noise (NaN with lambda_2 = 0).

    Every epoch draws from its own seed, so a training that was interrupted goes on as if it had not been.
    """
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + state.epoch)
    # of its own, so that plain fine-tuning sees the same batches and crops
    starts = torch.Generator().manual_seed(settings.seed * 1_000_003 + state.epoch)
    layers = noisy_layers(model)
    clean_sum, noisy_sum, seen = 0.0, 0.0, 0
    for batch in torch.randperm(len(images), generator=generator).split(settings.batch):
        x, y = augment(images[batch], settings.flip, generator, model.input.layout), labels[batch]
        leaves = {name: value.requires_grad_() for name, value in state.weights.items()}
        constants, stats = model.constants(leaves), Stats()
        clean = F.cross_entropy(_Pass(model, constants, layers, None, stats).run(x), y)
        loss, noisy = clean, torch.tensor(float("nan"))
        if settings.weight:
            noise = search(model, constants, stats, x, y, settings, starts)
            noisy = F.cross_entropy(_Pass(model, constants, layers, noise, stats).run(x), y)
            loss = clean + settings.weight * noisy
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(leaves.items(), gradients, strict=True):
                momentum = state.momenta.setdefault(name, torch.zeros_like(value))
                momentum.mul_(settings.momentum).add_(gradient + settings.weight_decay * value)
                state.weights[name] = (value - settings.lr * momentum).detach()
        clean_sum, noisy_sum, seen = clean_sum + float(clean) * len(y), noisy_sum + float(noisy) * len(y), seen + len(y)
        told(len(y))
    state.epoch += 1
    return clean_sum / seen, noisy_sum / seen
