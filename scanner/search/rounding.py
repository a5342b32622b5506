"""Roundings with a gradient: the one of the identity, straight through (Bengio, Léonard & Courville 2013, arXiv 1308.3432).

A network that rounds its pixels, or casts them to integers, computes what it did before; without this, no search by gradients sees a
pixel of it.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx

aten = torch.ops.aten

ROUNDINGS: dict[Any, str] = {getattr(aten, name).default: name for name in ("round", "floor", "ceil", "trunc")}
CASTS = frozenset({aten.to.dtype, aten._to_copy.default})
# what integers may meet on their way back to floating point, and would compute with the same numbers in it
VALUES = frozenset(
    {
        *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.rsub.Scalar, aten.neg.default, aten.clamp.default, aten.relu.default),
        *(aten.reshape.default, aten.view.default, aten.permute.default, aten.transpose.int, aten.flatten.using_ints, aten.cat.default),
        *(aten.slice.Tensor, aten.select.int, aten.index_select.default, aten.flip.default, aten.squeeze.dims, aten.unsqueeze.default),
    }
)


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        return rounding(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return grads[0], None


class _Stepped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, low: float, high: float) -> Tensor:
        ratio = (x / step).nan_to_num_(-torch.inf, torch.inf, -torch.inf)
        inside = ratio.clamp(low, high)
        ctx.save_for_backward(inside == ratio)
        return inside.round_().mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None, None, None]:
        return grads[0] * ctx.saved_tensors[0], None, None, None


def stepped(x: Tensor, step: float, low: float, high: float) -> Tensor:
    """The multiple of a step next to x, from `low` to `high` of them, with the gradient of x within these bounds; NaN is the lowest."""
    return cast(Tensor, _Stepped.apply(x, step, low, high))  # type: ignore[no-untyped-call]


def straight(x: Tensor, name: str) -> Tensor:
    """x rounded by torch's function of this name, with the gradient of x."""
    return _applied(x, getattr(torch, name))


def whole(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x as it is after a cast to integers, in its own type, with the gradient of x."""
    return _applied(x, lambda value: value.to(dtype).to(value.dtype))


def _applied(x: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    return cast(Tensor, _Straight.apply(x, rounding))  # type: ignore[no-untyped-call]


def straighten(module: fx.GraphModule) -> fx.GraphModule:
    """Puts roundings with a gradient into the module, which must be a copy of its own."""
    for node in module.graph.nodes:
        given = _steps(node)
        if given is not None:
            node.args, node.target = given, stepped
    module.graph.eliminate_dead_code()
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        if node.target in ROUNDINGS:
            node.args, node.target = (node.args[0], ROUNDINGS[node.target]), straight
        elif _to_integer(node) and _comes_back(node):
            node.args, node.kwargs, node.target = (node.args[0], _dtype(node)), {}, whole
    module.recompile()
    return module


def _steps(node: fx.Node) -> tuple[Any, ...] | None:
    """The arguments of `stepped` where a node is the last of those that compute it: as quantised activations have it, in one go."""
    chain: list[Any] = [node]
    for target in (aten.mul.Tensor, aten.round.default, aten.clamp.default, aten.div.Tensor, aten.nan_to_num.default):
        last = chain[-1]
        if not isinstance(last, fx.Node) or last.target is not target or last.kwargs or (last is not node and len(last.users) > 1):
            return None
        chain.append(last.args[0])
    step, bounds, divisor, ends = node.args[1], chain[2].args[1:], chain[3].args[1], chain[4].args[1:]
    numbers = all(isinstance(value, int | float) for value in (step, *bounds)) and len(bounds) == 2
    return (chain[-1], step, *bounds) if numbers and step == divisor and ends == (-torch.inf, torch.inf, -torch.inf) else None


def _dtype(node: fx.Node) -> Any:
    """What a cast casts to."""
    return node.kwargs.get("dtype", node.args[1] if len(node.args) > 1 else None)


def _to_integer(node: fx.Node) -> bool:
    """Whether a node makes integers of floating-point numbers, or numbers of 8 bits, whose steps are as coarse."""
    if node.target not in CASTS or not isinstance(_dtype(node), torch.dtype) or not isinstance(node.args[0], fx.Node):
        return False
    given = node.args[0].meta.get("val")
    dtype = _dtype(node)
    plain = dtype.itemsize == 1 if dtype.is_floating_point else dtype != torch.bool
    return plain and isinstance(given, Tensor) and given.is_floating_point()


def _comes_back(node: fx.Node) -> bool:
    """Whether whatever reads these integers computes the same with them in floating point, until they are cast back."""
    return all(
        user.op == "call_function"
        and ((user.target in CASTS and _dtype(user).is_floating_point) or (user.target in VALUES and _comes_back(user)))
        for user in node.users
    )
