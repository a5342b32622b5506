"""The noise of one layer as one value."""

from dataclasses import dataclass

from torch import Tensor

ACTIVATIONS = (None, "relu")
# the result of a layer, once for its first reader and once for all others: what arrives from them are two gradients, added by the layer
Twice = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class LayerNoise:
    """The noise of K restarts on a layer of C neurons, and what is computed together with it.

    Without `stats` it is Eq. 3 of BAN, y = act((1 + delta) z + (1 + xi) b + residual), for pre-activations z without bias. With them it is
    the normalised form y = act(m + s (xi + (1 + delta) (z - mu) / sigma) + residual), where mu and sigma are those of each restart's batch,
    and z is in units of s (`reference.units`); a channel with s = 0 stays at m.

    Attributes:
        delta, xi: [K, C], the multiplicative noise on weights and biases.
        bias: b, [C], or None. The normalised form does not read it: the batch mean takes it out again.
        stats: [2, C] or None, the clean mean m and standard deviation s of the pre-activations with bias.
        act: "relu" or None.
        shared: all restarts see the same pre-activations [N, ...]; otherwise each its own, [K * N, ...], the restarts outermost.
        residual: shaped like the result, added in front of the activation; or None.
    """

    delta: Tensor
    xi: Tensor
    bias: Tensor | None = None
    stats: Tensor | None = None
    act: str | None = None
    shared: bool = False
    residual: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown activation."""
        if self.act not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.act!r}; expected 'relu' or None")
