"""Neuron noise on a traced model: every neuron layer below the classifier gets its own delta and xi (BAN, Eq. 3 and 6).

The noise of K restarts is one flat float32 buffer [K, D], all delta then all xi; each layer sees a view of it. The classifier itself
carries none, as in Eq. 6: there, noise would move a class's logit directly and say nothing about features.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from banscan.importers import Neuron, TracedModel
from banscan.scanner.inputs.preprocess import Inputs
from banscan.scanner.machine import memory
from banscan.scanner.machine.cuda_graph import Recordings
from banscan.scanner.machine.precision import convert
from banscan.scanner.search.backward import eased
from banscan.scanner.search.cut import cut
from banscan.scanner.search.noisy_layers import views
from banscan.scanner.search.rounding import straighten
from banscan.scanner.search.spread import evenly

# images that are tried before a search, and the strength of noise then
TRIED, TRIAL = 8, 0.1
# images whose answers in another number format are compared with the model's own
ROUNDED = 32


@dataclass(frozen=True)
class NoisyModel:
    """A model that takes noise, cut where the noise begins.

    `before` maps images [N, ...] to what does not depend on the noise and is computed once per scan; `behind` maps that and noise [K, D]
    to logits and features. `size` is D, twice the number of neurons; `stats` holds [2, C] per layer, the clean mean and standard
    deviation, or is None (Eq. 3). `at_once` is the number of images that memory has room for, those of all restarts
    together, and `together` how many are looked at as one batch where no gradient is kept; `recorded` are the steps of the search on a GPU.
    """

    before: fx.GraphModule
    behind: fx.GraphModule
    neurons: tuple[Neuron, ...]
    stats: tuple[Tensor, ...] | None
    size: int
    dtype: torch.dtype
    device: torch.device
    at_once: int
    together: int
    recorded: Recordings = field(default_factory=dict)

    @torch.no_grad()
    def prepare(self, images: Inputs, batch: int | None = None, progress: Callable[[int], None] = lambda done: None) -> tuple[Tensor, ...]:
        """The part of the network in front of the noise, for preprocessed images [N, ...] in the model's layout."""
        batch = batch or memory.answered_at_once(self.before.graph.nodes, self.device)
        whole: tuple[Tensor, ...] = ()
        done = 0
        for part in images.split(batch):
            made = self.before(_channels_last(part.to(self.device, self.dtype)))
            # all of it has its place at once: parts that are put together afterwards take the memory twice
            whole = whole or tuple(_room(len(images), one) for one in made)
            for place, one in zip(whole, made, strict=True):
                place[done : done + len(part)] = one
            done += len(part)
            progress(len(part))
        return whole

    def run(self, prepared: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [K * N, classes] and features [K * N, ...] under noise [K, D]; the restarts are the outer part of the batch.

        A model in float32 also goes on with what one in less prepared.
        """
        if self.dtype == torch.float32:
            prepared = tuple(p.float() if p.is_floating_point() else p for p in prepared)
        logits, features = self.behind(views(noise, self.neurons, self.stats, len(prepared[0])), *prepared)
        return logits.float(), features


def _room(count: int, like: Tensor) -> Tensor:
    """Place for a tensor [count, ...] of images like these."""
    form = torch.channels_last if like.dim() == 4 else torch.contiguous_format
    return torch.empty((count, *like.shape[1:]), dtype=like.dtype, device=like.device, memory_format=form)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


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
    parts = cut(model, neurons, stats)
    size = 2 * sum(n.channels for n in neurons)
    at_once = memory.images_at_once(parts.moving, dtype, model.device)
    before, behind = (straighten(convert(part, dtype)) for part in (parts.before, parts.behind))
    eased(behind)
    together = memory.together(parts.moving, model.device)
    return NoisyModel(before, behind, neurons, stats, size, dtype, model.device, at_once, together)


@torch.no_grad()
def disagreement(noisy: NoisyModel, prepared: tuple[Tensor, ...], logits: Tensor) -> float:
    """How far the noise of a few images and restarts depends on who else is there, in deviations of the logits between images.

    Eight images in one order and in another, and two restarts at once and each alone. The statistics of the normalised form are those of
    the images at hand, so that fewer images are not compared with all.

    Args:
        prepared: of all images; `logits` [N, classes] are those of the model itself, on the CPU.
    """
    few = evenly(torch.arange(len(logits)), TRIED)
    part, turned = (tuple(border[order.to(border.device)] for border in prepared) for order in (few, few.flip(0)))
    noise = TRIAL * torch.randn(2, noisy.size, generator=torch.Generator().manual_seed(0)).to(noisy.device)
    together = noisy.run(part, noise)[0]
    other = noisy.run(turned, noise)[0].reshape(2, len(few), -1).flip(1).flatten(0, 1)
    alone = torch.cat([noisy.run(part, noise[i : i + 1])[0] for i in range(2)])
    return max(float((together - again).square().mean().sqrt()) for again in (other, alone)) / _spread(logits)


@torch.no_grad()
def rounded(noisy: NoisyModel, prepared: tuple[Tensor, ...], logits: Tensor) -> float:
    """How far its number format moves the logits of a few images without any noise, in deviations of the logits between images.

    Args:
        prepared, logits: as in `disagreement`.
    """
    few = evenly(torch.arange(len(logits)), ROUNDED)
    part = tuple(border[few.to(border.device)] for border in prepared)
    found = noisy.run(part, torch.zeros(1, noisy.size, device=noisy.device))[0].cpu()
    return float((found - logits[few]).square().mean().sqrt()) / _spread(logits)


def _spread(logits: Tensor) -> float:
    """The deviation of logits [N, classes] between images, never zero."""
    return max(float((logits - logits.mean(0)).square().mean().sqrt()), 1e-12)


@torch.no_grad()
def measure(
    model: TracedModel, neurons: tuple[Neuron, ...], images: Inputs, progress: Callable[[int], None] = lambda done: None
) -> tuple[Tensor, ...]:
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

    for part in images.split(memory.answered_at_once(model.module.graph.nodes, model.device)):
        Watch(model.module).run(part.to(model.device))
        progress(len(part))
    result = []
    for neuron in neurons:
        mean, square = sums[neuron.node] / counts[neuron.node]
        var = (square - mean**2).clamp(min=0)
        # a difference of sums leaves rounding behind in a channel that never moves
        var = torch.where(var > 1e-12 * square, var, torch.zeros_like(var))
        result.append(torch.stack((mean, var.sqrt())).float())
    return tuple(result)
