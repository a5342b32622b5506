"""Fine-tuning against neuron noise (BAN, Eq. 8) on a traced model, and back to the weights that the file holds.

Exported models have their batch norm folded away, and folded weights cannot be tuned as the paper tunes: at its learning rate accuracy
falls at once, and noise on many layers multiplies up. So every neuron layer below the classifier gets its batch norm back: its weights
keep their direction, and what clean images show of its pre-activations becomes a scale and a shift, which the noise acts on ((1 + delta)
scale, (1 + xi) shift, Eq. 3). Training uses the statistics of the batch, as the paper does; at the end all of it is folded again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.func import functional_call
from torch.nn import functional as F

from banscan.importers import TracedModel
from banscan.importers.graph import attribute_named
from banscan.importers.weights import roles, written

# variance that keeps a channel that never moves finite, as batch norm does
SMALLEST = 1e-5
# a deviation below this share of the layer's largest counts as no movement
STILL = 1e-3
# a crop after padding by this share of the side, as training uses it
CROP = 8
# ANP prunes neurons whose mask has fallen below this
PRUNED = 0.2
# images at once where no gradient is needed
MANY = 250

Noise = dict[str, tuple[Tensor, Tensor]]
Stats = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Tuning:
    """Settings of Eq. 8; where they are not the paper's (Appendix B.4), docs/method.md says why.

    Attributes:
        lr: at the start; it falls to 0 along half a cosine.
        weight: lambda_2, the weight of the loss under noise; 0 is plain fine-tuning.
        eps, steps: bound of delta and xi, and the PGD steps that search them anew for every batch.
        flip: mirror images at random.
    """

    epochs: int = 25
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight: float = 0.5
    eps: float = 0.6
    steps: int = 3
    batch: int = 64
    flip: bool = False
    seed: int = 0


@dataclass
class State:
    """Where a training is: what is trained and its momentum, by name, and the epochs done."""

    values: dict[str, Tensor]
    momenta: dict[str, Tensor]
    epoch: int = 0


def plain(settings: Tuning) -> Tuning:
    """The same without noise: plain fine-tuning."""
    return replace(settings, weight=0.0)


# adversarial neuron pruning with the settings of its authors (Wu and Wang, NeurIPS 2021): alpha L + (1 - alpha) L under noise with alpha
# = 0.2 is alpha times this loss. They run 2000 batches at a rate of 0.2 alpha; few images make few batches, so it is five times that here
ANP = Tuning(epochs=100, lr=0.2, weight=4.0, weight_decay=0.0, eps=0.4, steps=1, batch=128)


@torch.no_grad()
def suited(settings: Tuning, model: TracedModel, images: Tensor, labels: Tensor, most: float) -> Tuning:
    """The same with mirroring where the model loses at most `most` of its accuracy on mirror images, as on most data but signs and text."""
    axis = 3 if model.input.layout == "NCHW" else 2
    own, mirrored = (accuracy(model, {}, x, labels) for x in (images, images.flip(axis)))
    return replace(settings, flip=mirrored >= own - most)


@torch.no_grad()
def accuracy(model: TracedModel, weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> float:
    """Share of images [N, ...] that get their label with these of the file's weights in place of its own."""
    return float((predictions(model, weights, images) == labels).double().mean())


@torch.no_grad()
def predictions(model: TracedModel, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Classes [N] that these of the file's weights lead to."""
    return torch.cat([logits(model, weights, part).argmax(1) for part in images.split(MANY)])


def logits(model: TracedModel, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """Logits [N, classes] with these of the file's weights in place of its own."""
    result: Tensor = functional_call(model.module, model.constants(weights), (images,))
    return result


class _Pass(fx.Interpreter):
    """One pass through the graph with its layers in normalised form, by the statistics of the batch.

    With `seen`, those of every layer are noted there; with `noise`, scale and shift carry it.
    """

    def __init__(
        self,
        model: TracedModel,
        values: dict[str, Tensor],
        noise: Noise | None = None,
        seen: Stats | None = None,
    ) -> None:
        super().__init__(model.module)
        self.values, self.noise, self.seen = values, noise or {}, seen
        self.axes = {n.node: n.axis for n in model.neurons}

    def fetch_attr(self, target: str) -> Any:
        return self.values[target] if target in self.values else super().fetch_attr(target)

    def run_node(self, n: fx.Node) -> Any:
        if f"scale/{n.name}" not in self.values:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        z = cast(Callable[..., Tensor], n.target)(*args[:2], None, *args[3:], **kwargs)
        flat = z if self.axes[n.name] == 1 else z.flatten(0, -2)
        if self.seen is not None:
            self.seen[n.name] = _moments(flat)
        scale, shift = self.values[f"scale/{n.name}"], self.values[f"shift/{n.name}"]
        kept = self.values.get(f"mask/{n.name}", torch.ones(()))
        if n.name in self.noise:
            delta, xi = self.noise[n.name]
            kept, shift = kept + delta, shift * (1 + xi)
        scale = scale * kept
        return F.batch_norm(flat, None, None, scale, shift, True, 0.0, SMALLEST).reshape(z.shape)


def _moments(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [C] over everything but axis 1."""
    var, mean = torch.var_mean(flat, [d for d in range(flat.dim()) if d != 1], correction=0)
    return mean, var


@torch.no_grad()
def start(model: TracedModel, images: Tensor, *, masked: bool = False) -> State:
    """The model in the form that is trained: layers below the classifier that have a bias get a scale and a shift of their own.

    With `masked`, every neuron gets a mask of 1 as well, and nothing else is trained (ANP).
    """
    values: dict[str, Tensor] = {}
    below = [n for n in model.neurons if n.node not in model.classifier]
    for neuron in model.neurons:
        for name in roles(model, neuron):
            if name is not None and name not in model.statistics:
                values[name] = attribute_named(model.module, name).detach().clone()
    stats: Stats = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.name in axes:
                stats[n.name] = _moments(value if axes[n.name] == 1 else value.flatten(0, -2))
            return value

    # the exporter may let a batch norm of its own share tensors with its statistics
    axes = {n.node: n.axis for n in below if roles(model, n)[1] in values and n.kind != "norm"}
    Watch(model.module).run(images[: 4 * MANY])
    for neuron in below:
        weight, bias = roles(model, neuron)
        if neuron.node in stats and bias is not None:
            mean, var = stats[neuron.node]
            deviation = var.sqrt().clamp(min=STILL * float(var.max()) ** 0.5 + SMALLEST)
            values[weight] = values[weight] / deviation.reshape(-1, *(1,) * (values[weight].dim() - 1))
            del values[bias]
            values[f"scale/{neuron.node}"], values[f"shift/{neuron.node}"] = deviation, mean
            if masked:
                values[f"mask/{neuron.node}"] = torch.ones_like(mean)
    return State(values, {})


@torch.no_grad()
def finished(model: TracedModel, state: State, images: Tensor) -> dict[str, Tensor]:
    """The file's weights after training: neurons with a small mask are pruned, and statistics over all images are folded in."""
    values = {n: (v >= PRUNED).to(v.dtype) if n.startswith("mask/") else v for n, v in state.values.items()}
    seen: list[Stats] = []
    for part in images.split(MANY):
        seen.append({})
        _Pass(model, values, seen=seen[-1]).run(part)
    constants = {name: value for name, value in values.items() if "/" not in name}
    for neuron in model.neurons:
        if f"scale/{neuron.node}" not in values:
            continue
        weight, bias = roles(model, neuron)
        mean, var = (torch.stack([s[neuron.node][i] for s in seen]).mean(0) for i in (0, 1))
        factor = values[f"scale/{neuron.node}"] * values.get(f"mask/{neuron.node}", torch.ones(())) * (var + SMALLEST).rsqrt()
        constants[weight] = constants[weight] * factor.reshape(-1, *(1,) * (constants[weight].dim() - 1))
        constants[cast(str, bias)] = values[f"shift/{neuron.node}"] - mean * factor
    with torch.enable_grad():
        return written(model, constants)


def search(
    model: TracedModel, values: dict[str, Tensor], images: Tensor, goal: Tensor, sign: float, settings: Tuning, generator: torch.Generator
) -> Noise:
    """Eq. 4 for one batch: noise that raises (`sign` 1) or lowers (-1) the loss towards `goal`; sign steps from a random start."""
    still = {name: value.detach() for name, value in values.items()}
    names = [name.removeprefix("scale/") for name in values if name.startswith("scale/")]
    sizes = [len(values[f"scale/{name}"]) for name in names]
    flat = (torch.rand(2 * sum(sizes), generator=generator) * 2 - 1) * settings.eps

    def views() -> Noise:
        delta, xi = flat.chunk(2)
        return dict(zip(names, zip(delta.split(sizes), xi.split(sizes), strict=True), strict=True))

    for _ in range(settings.steps):
        flat.requires_grad_()
        loss = sign * F.cross_entropy(_Pass(model, still, views()).run(images), goal)
        (gradient,) = torch.autograd.grad(loss, flat)
        flat = (flat.detach() + 2 * settings.eps / settings.steps * gradient.sign()).clamp(-settings.eps, settings.eps)
    return views()


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
    model: TracedModel,
    state: State,
    images: Tensor,
    labels: Tensor,
    settings: Tuning,
    aims: Tensor | None = None,
    told: Callable[[int], None] = lambda n: None,
) -> tuple[float, float]:
    """One pass over the images, in place on `state`; the mean loss on clean images and under noise (NaN with lambda_2 = 0).

    Every epoch draws from its own seed, so a training that was interrupted goes on as if it had not been.

    Args:
        aims: [classes], where the noise pulls the images of each class; None for noise that raises the loss, as Eq. 4 has it.
        told: called with the number of images done.
    """
    generator, starts = (torch.Generator().manual_seed(settings.seed * 1_000_003 + state.epoch + offset) for offset in (0, 1 << 40))
    batches = torch.randperm(len(images), generator=generator).tensor_split(max(1, round(len(images) / settings.batch)))
    clean_sum, noisy_sum = 0.0, 0.0
    for number, batch in enumerate(batches):
        lr = settings.lr * 0.5 * (1 + cos(pi * (state.epoch + number / len(batches)) / settings.epochs))
        x, y = augment(images[batch], settings.flip, generator, model.input.layout), labels[batch]
        masks = [name for name in state.values if name.startswith("mask/")]
        trained = {name: state.values[name].requires_grad_() for name in masks or state.values}
        values = {**state.values, **trained}
        clean = F.cross_entropy(_Pass(model, values).run(x), y)
        loss, noisy = clean, torch.tensor(float("nan"))
        if settings.weight:
            noise = search(model, values, x, y if aims is None else aims[y], 1.0 if aims is None else -1.0, settings, starts)
            noisy = F.cross_entropy(_Pass(model, values, noise).run(x), y)
            loss = clean + settings.weight * noisy
        gradients = torch.autograd.grad(loss, list(trained.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(trained.items(), gradients, strict=True):
                momentum = state.momenta.setdefault(name, torch.zeros_like(value))
                momentum.mul_(settings.momentum).add_(gradient + settings.weight_decay * value)
                stepped = (value - lr * momentum).detach()
                state.values[name] = stepped.clamp(0, 1) if masks else stepped
        clean_sum, noisy_sum = clean_sum + float(clean.detach()) * len(y), noisy_sum + float(noisy.detach()) * len(y)
        told(len(y))
    state.epoch += 1
    return clean_sum / len(images), noisy_sum / len(images)
