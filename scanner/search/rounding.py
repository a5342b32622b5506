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
# what becomes of NaN and infinite numbers where activations are quantised
ENDS = (-torch.inf, torch.inf, -torch.inf)
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
        ratio = (x / step).nan_to_num_(*ENDS)
        inside = ratio.clamp(low, high)
        ctx.save_for_backward(inside == ratio)
        return inside.round_().mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None, None, None]:
        return grads[0] * ctx.saved_tensors[0], None, None, None


class _Levelled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, most: float) -> Tensor:
        ctx.save_for_backward(x, scale, zero)
        return (x / scale).nan_to_num_(*ENDS).round_().add_(zero).clamp_(0.0, most)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, Any, Any, None]:
        x, scale, zero = ctx.saved_tensors
        own = grads[0] / scale
        return own, -(own * x).sum_to_size(scale.shape) / scale, grads[0].sum_to_size(zero.shape), None


def levelled(x: Tensor, scale: Tensor, zero: Tensor, most: float) -> Tensor:
    """The integers from 0 to `most` of a scale and zero point that follow from x, with the gradient of what they are without a rounding."""
    return cast(Tensor, _Levelled.apply(x, scale, zero, most))  # type: ignore[no-untyped-call]


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
        for given, target in ((_steps(node), stepped), (_levels(node), levelled)):
            if given is not None:
                node.args, node.target = given, target
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
    chain = _chain(node, aten.mul.Tensor, aten.round.default, aten.clamp.default, aten.div.Tensor, aten.nan_to_num.default)
    if chain is None:
        return None
    step, bounds, divisor, ends = node.args[1], chain[2].args[1:], chain[3].args[1], chain[4].args[1:]
    numbers = all(isinstance(value, int | float) for value in (step, *bounds)) and len(bounds) == 2
    return (chain[-1], step, *bounds) if numbers and step == divisor and ends == ENDS else None


def _levels(node: fx.Node) -> tuple[Any, ...] | None:
    """The arguments of `levelled`, in the same way."""
    chain = _chain(node, aten.clamp.default, aten.add.Tensor, aten.round.default, aten.nan_to_num.default, aten.div.Tensor)
    if chain is None or len(node.args) != 3 or node.args[1] != 0 or chain[3].args[1:] != ENDS:
        return None
    zero, scale = chain[1].args[1], chain[4].args[1]
    tensors = isinstance(zero, fx.Node) and isinstance(scale, fx.Node)
    return (chain[-1], scale, zero, node.args[2]) if tensors else None


def _chain(node: fx.Node, *targets: Any) -> list[Any] | None:
    """Nodes of these operators, each the first argument of the one before and of nothing else, and what goes into the last of them."""
    chain: list[Any] = [node]
    for target in targets:
        last = chain[-1]
        if not isinstance(last, fx.Node) or last.target is not target or last.kwargs or (last is not node and len(last.users) > 1):
            return None
        chain.append(last.args[0])
    return chain


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
