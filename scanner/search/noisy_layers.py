"""The layers of a noisy graph: each takes its part of the noise of all layers and hands it to the kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from banscan.importers import Neuron
from banscan.kernels import noisy_conv, noisy_linear, perturb, units


@dataclass(frozen=True)
class NoiseViews:
    """The noise of K restarts on all layers; a graph is called with it.

    Attributes:
        delta, xi: of each layer, [K, C].
        stats: of each layer, [2, C], the clean mean and standard deviation, or None (Eq. 3).
        restarts: K.
        count: images of the whole batch, K * N.
    """

    delta: tuple[Tensor, ...]
    xi: tuple[Tensor, ...]
    stats: tuple[Tensor | None, ...]
    restarts: int
    count: int

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.delta[layer], self.xi[layer], self.stats[layer]


def views(noise: Tensor, neurons: tuple[Neuron, ...], stats: tuple[Tensor, ...] | None, images: int) -> NoiseViews:
    """Layer by layer views of a flat buffer [K, D], all delta then all xi, for a batch of so many images of every restart."""
    sizes = [n.channels for n in neurons]
    half = noise.shape[1] // 2
    delta, xi = noise[:, :half].split(sizes, 1), noise[:, half:].split(sizes, 1)
    return NoiseViews(delta, xi, stats or (None,) * len(neurons), len(noise), len(noise) * images)


def batch(noise: NoiseViews) -> int:
    """The size of the whole batch."""
    return noise.count


def repeated(value: Tensor, noise: NoiseViews) -> Tensor:
    """[N, ...] once for every restart: [K * N, ...]."""
    return value.repeat(noise.restarts, *(1,) * (value.dim() - 1))


def conv(
    noise: NoiseViews,
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


def linear(noise: NoiseViews, layer: int, x: Tensor, weight: Tensor, bias: Tensor | None = None, **settings: Any) -> Tensor:
    return noisy_linear(x, weight, _single(bias), *noise[layer], **settings)


def shared(noise: NoiseViews, layer: int, z: Tensor, bias: Tensor | None, **settings: Any) -> Tensor:
    """A layer whose pre-activations are the same for all restarts and steps."""
    return perturb(z, _single(bias), *noise[layer], **settings)


def norm(
    noise: NoiseViews,
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


LAYERS: dict[str, Callable[..., Tensor]] = {"conv": conv, "linear": linear}
