"""How constants of the graph follow from those of the file, beside torch's own operators: functions that a `Folding` may name."""

from collections.abc import Callable

from torch import Tensor


def scaled(weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """The weight of a layer with its batch norm in it."""
    scale = (var + eps).rsqrt()
    scale = scale if gamma is None else scale * gamma
    return weight * scale.reshape(-1, *(1,) * (weight.dim() - 1))


def shifted(
    weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    """The bias of a layer with its batch norm in it; the weight does not count."""
    scale = (var + eps).rsqrt()
    scale = scale if gamma is None else scale * gamma
    shift = -mean * scale if bias is None else (bias - mean) * scale
    return shift if beta is None else shift + beta


def flattened(value: Tensor) -> Tensor:
    """A bias written with axes of one for the places of a map."""
    return value.flatten()


def rows(value: Tensor, turned: bool) -> Tensor:
    """A constant operand of a product as the weight of a linear layer [outputs, inputs]; `turned` where it stands on the right."""
    if value.dim() == 1:
        return value[None]
    matrix = value.reshape(value.shape[-2:])
    return matrix.t() if turned else matrix


def laid_out(value: Tensor, order: list[int], outputs: int) -> Tensor:
    """A constant operand of an einsum as the weight of a linear layer, its axes in this order, the first `outputs` of them behind it."""
    turned = value.permute(order)
    return turned.reshape(turned.shape[:outputs].numel(), -1)


def merged(outer: Tensor, inner: Tensor, own: Tensor | None) -> Tensor:
    """The weight, or the bias, of two linear layers in one."""
    product = outer @ inner
    return product if own is None else product + own


FUNCTIONS: dict[str, Callable[..., Tensor]] = {f"functions.{f.__name__}": f for f in (scaled, shifted, flattened, rows, laid_out, merged)}
