"""What a noisy graph calls beside the kernels: the noise of all layers, each layer's part of it, and what noise makes of a batch norm."""

from dataclasses import dataclass, replace

from torch import Tensor

from banscan.importers import Neuron
from banscan.kernels import LayerNoise, Twice, perturb, units


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


def layer_noise(
    noise: NoiseViews, layer: int, bias: Tensor | None, *, act: str | None, shared: bool, residual: Tensor | None
) -> LayerNoise:
    """The noise of one layer by its number, with what is computed together with it."""
    # weights and biases may be of another type, the noise is float32 always
    bias = None if bias is None else bias.float()
    return LayerNoise(noise.delta[layer], noise.xi[layer], bias, noise.stats[layer], act, shared, residual)


def norm(
    noise: LayerNoise,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Twice:
    """A batch norm that stands alone: its scale is the neuron's weight, its shift the neuron's bias. Arguments as of aten.batch_norm."""
    scale = (var.float() + eps).rsqrt() * (1 if weight is None else weight.float())
    shift = -mean.float() * scale + (0 if bias is None else bias.float())
    factor = scale if noise.stats is None else units(scale, noise.stats)
    z = x * factor.to(x.dtype).reshape(1, -1, *(1,) * (x.dim() - 2))
    return perturb(z, replace(noise, bias=shift))
