"""Gradients on a CPU by faster ways: torch's own of two operators take several times as long as everything else in a MobileNet.

The gradient of a clamp (ReLU6) is computed there by four passes over the tensor, that of a convolution with groups and a stride in bfloat16
by a loop that no instruction of the processor helps with.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        # a clamp passes the gradient at its bounds as well, torch's hardtanh between them only
        ctx.ends = (float(np.nextafter(np.float32(low), np.float32(-np.inf))), float(np.nextafter(np.float32(high), np.float32(np.inf))))
        return x.clamp(low, high)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return aten.hardtanh_backward(grad, ctx.saved_tensors[0], *ctx.ends), None, None


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return cast(Tensor, aten.conv2d.default(x, weight, bias, *geometry))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        # of x nothing but its form is read
        form = torch.empty_like(x, dtype=torch.float32)
        wide = grad.float(), form, weight.float(), None, stride, padding, dilation, False, [0, 0], groups, [True, False, False]
        return aten.convolution_backward(*wide)[0].to(x.dtype), None, None, None


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """x between two numbers, with the gradient of torch's clamp, to the bit."""
    quick = x.device.type == "cpu" and x.is_floating_point() and x.requires_grad
    return cast(Tensor, _Bounded.apply(x, low, high)) if quick else x.clamp(low, high)  # type: ignore[no-untyped-call]


def strided(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> Tensor:
    """A convolution in two dimensions with frozen weights; its gradient towards x is computed in float32."""
    geometry = stride, padding, dilation, groups
    quick = x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.requires_grad
    if not quick:
        return cast(Tensor, aten.conv2d.default(x, weight, bias, *geometry))
    return cast(Tensor, _Strided.apply(x, weight, bias, geometry))  # type: ignore[no-untyped-call]


def eased(module: fx.GraphModule) -> fx.GraphModule:
    """Puts these into the module, which must be a copy of its own."""
    for node in module.graph.nodes:
        if bounds(node):
            node.target = bounded
        elif node.target is aten.conv2d.default and not node.kwargs and _grouped(node.args):
            node.target = strided
    module.recompile()
    return module


def bounds(node: fx.Node) -> bool:
    """Whether it keeps its input between two numbers, as `bounded` does."""
    return node.target is aten.clamp.default and not node.kwargs and len(node.args) == 3 and all(map(_number, node.args[1:]))


def _number(value: object) -> bool:
    return isinstance(value, int | float)


def _grouped(arguments: tuple[Any, ...]) -> bool:
    """Whether a convolution has groups and a stride."""
    return len(arguments) == 7 and arguments[6] > 1 and max(arguments[3]) > 1
