"""The form of a traced model that is fine-tuned: batch norm put back behind its layers, and folded again at the end.

Exported models have their batch norm folded away, and folded weights cannot be tuned as the paper tunes: at its learning rate accuracy
falls at once, and noise on many layers multiplies up. So every neuron layer below the classifier gets its batch norm back: its weights
keep their direction, and what clean images show of its pre-activations becomes a scale and a shift, which the noise acts on ((1 + delta)
scale, (1 + xi) shift, Eq. 3). Training uses the statistics of the batch, as the paper does; at the end all of it is folded again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from banscan.importers import TracedModel, attribute_named
from banscan.importers.normal.weights import roles, written
from banscan.scanner.search.backward import bounded, bounds
from banscan.scanner.search.noisy_model import layers, measure
from banscan.scanner.search.patch import Patches
from banscan.scanner.search.rounding import ROUNDINGS, straight

# variance that keeps a channel that never moves finite, as batch norm does
SMALLEST = 1e-5
# a deviation below this share of the layer's largest counts as no movement
STILL = 1e-3
# ANP prunes neurons whose mask has fallen below this
PRUNED = 0.2
# images of a batch whose own statistics count, where no gradient is needed; and as many as are enough for scales and shifts at the start
MANY, SHOWN = 250, 1000

Noise = dict[str, tuple[Tensor, Tensor]]
Stats = dict[str, tuple[Tensor, Tensor]]


@dataclass
class State:
    """Where a training is: what is trained and its momentum, by name, the epochs done, and the changes of pixels to go on with."""

    values: dict[str, Tensor]
    momenta: dict[str, Tensor]
    epoch: int = 0
    pixels: Tensor | None = None
    patches: Patches | None = None


class Pass(fx.Interpreter):
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
        if n.target in ROUNDINGS:  # else nothing in front of the last of them would be trained
            args, _ = self.fetch_args_kwargs_from_env(n)
            return straight(cast(Tensor, args[0]), ROUNDINGS[n.target])
        if bounds(n):
            return bounded(*self.fetch_args_kwargs_from_env(n)[0])
        if f"scale/{n.name}" not in self.values and n.target != torch.ops.aten.conv2d.default:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        args = _thinned(n.target, args)
        if f"scale/{n.name}" not in self.values:
            return cast(Callable[..., Tensor], n.target)(*args, **kwargs)
        z = cast(Callable[..., Tensor], n.target)(*args[:2], None, *args[3:], **kwargs)
        flat = z if self.axes[n.name] == 1 else z.flatten(0, -2)
        if self.seen is not None:
            self.seen[n.name] = _moments(flat)
        scale, shift = self.values[f"scale/{n.name}"], self.values[f"shift/{n.name}"]
        kept = self.values.get(f"mask/{n.name}", torch.ones((), device=scale.device))
        if n.name in self.noise:
            delta, xi = self.noise[n.name]
            kept, shift = kept + delta, shift * (1 + xi)
        scale = scale * kept
        return F.batch_norm(flat, None, None, scale, shift, True, 0.0, SMALLEST).reshape(z.shape)


def _thinned(target: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A convolution with one point of each stride as one of these points alone.

    oneDNN 3.12 ends the process over gradients towards the weights of some of the former, where channels are last.
    """
    if target != torch.ops.aten.conv2d.default or len(args) < 4:
        return args
    x, weight, bias, stride, *rest = args
    if tuple(weight.shape[2:]) != (1, 1) or tuple(stride) == (1, 1) or any(rest[0] if rest else ()):
        return args
    return x[:, :, :: stride[0], :: stride[-1]], weight, bias, [1, 1], *rest


def parts(images: Tensor) -> list[Tensor]:
    """Parts of at most MANY images, of one size as near as can be and drawn from all of them: images lie in the order of their classes.

    So each part has the same say, and the statistics of its batch are those of a mixed one, as in the tuning.
    """
    count = -(-len(images) // MANY)
    return [images[i::count] for i in range(count)]


def _moments(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [C] over everything but axis 1."""
    var, mean = torch.var_mean(flat, [d for d in range(flat.dim()) if d != 1], correction=0)
    return mean, var


@torch.no_grad()
def start(model: TracedModel, images: Tensor, *, depth: float = 0.0, masked: bool = False) -> State:
    """The model in the form that is trained: layers below the classifier that have a bias get a scale and a shift of their own.

    The share `depth` of the layers, counted from the image, is left as it is. With `masked`, every neuron gets a mask of 1 as well, and
    nothing else is trained (ANP).
    """
    values: dict[str, Tensor] = {}
    below = layers(model, depth)
    for neuron in (*below, *(n for n in model.neurons if n.node in model.classifier)):
        for name in roles(model, neuron):
            if name is not None and name not in model.statistics:
                values[name] = attribute_named(model.module, name).detach().clone()
    # the exporter may let a batch norm of its own share tensors with its statistics
    scaled = tuple(n for n in below if roles(model, n)[1] in values and n.kind != "norm")
    # images lie in the order of their classes
    for neuron, (mean, spread) in zip(scaled, measure(model, scaled, images[:: -(-len(images) // SHOWN)]), strict=True):
        weight, bias = roles(model, neuron)
        deviation = spread.clamp(min=STILL * spread.max() + SMALLEST)
        values[weight] = values[weight] / deviation.reshape(-1, *(1,) * (values[weight].dim() - 1))
        del values[cast(str, bias)]
        values[f"scale/{neuron.node}"], values[f"shift/{neuron.node}"] = deviation, mean
        if masked:
            values[f"mask/{neuron.node}"] = torch.ones_like(mean)
    return State(values, {})


@torch.no_grad()
def evened(model: TracedModel, state: State) -> State:
    """The same function, with weights as large as at the start of a training (He et al., 2015) in every layer that has a scale of its own.

    Such layers do not see how large their weights are, but the learning rate does: behind inputs of 0 to 255 they are so small that the
    first step would turn them over.
    """
    values = dict(state.values)
    for neuron in model.neurons:
        if f"scale/{neuron.node}" in values:
            name, _ = roles(model, neuron)
            weight = values[name]
            fan = weight[0].numel()
            values[name] = weight * ((2 / fan) ** 0.5 / weight.square().mean().sqrt().clamp(min=1e-12))
    return replace(state, values=values)


@torch.no_grad()
def anew(model: TracedModel, state: State, generator: torch.Generator) -> State:
    """The same layers with weights drawn as at the start of a training (He et al., 2015), without a trace of what they were."""
    values = dict(state.values)
    for neuron in model.neurons:
        weight, bias = roles(model, neuron)
        scale, shift = f"scale/{neuron.node}", f"shift/{neuron.node}"
        if weight in values and neuron.kind == "norm":
            values[weight] = torch.ones_like(values[weight])
        elif weight in values:
            gain = 1 if neuron.node in model.classifier else 2
            drawn = torch.randn(values[weight].shape, generator=generator) * (gain / values[weight][0].numel()) ** 0.5
            values[weight] = drawn.to(values[weight])
        if bias is not None and bias in values:
            values[bias] = torch.zeros_like(values[bias])
        if scale in values:
            values[scale], values[shift] = torch.ones_like(values[scale]), torch.zeros_like(values[shift])
    return State(values, {})


def finished(model: TracedModel, state: State, images: Tensor) -> dict[str, Tensor]:
    """The file's weights after training, as near to `folded` ones as the file can hold."""
    return written(model, folded(model, state, images))


@torch.no_grad()
def folded(model: TracedModel, state: State, images: Tensor) -> dict[str, Tensor]:
    """The graph's weights after training: neurons with a small mask are pruned, and statistics over all images are folded in."""
    values = {n: (v >= PRUNED).to(v.dtype) if n.startswith("mask/") else v for n, v in state.values.items()}
    seen: list[Stats] = []
    for part in parts(images):
        seen.append({})
        Pass(model, values, seen=seen[-1]).run(part.to(model.device))
    constants = {name: value for name, value in values.items() if "/" not in name}
    for neuron in model.neurons:
        if f"scale/{neuron.node}" not in values:
            continue
        weight, bias = roles(model, neuron)
        mean, var = (torch.stack([s[neuron.node][i] for s in seen]).mean(0) for i in (0, 1))
        factor = values[f"scale/{neuron.node}"] * (var + SMALLEST).rsqrt()
        factor = factor * values.get(f"mask/{neuron.node}", torch.ones_like(factor))
        constants[weight] = constants[weight] * factor.reshape(-1, *(1,) * (constants[weight].dim() - 1))
        constants[cast(str, bias)] = values[f"shift/{neuron.node}"] - mean * factor
    return constants
