"""Pooling over windows and reductions over whole axes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.padding import pad, pads_of
from banscan.importers.onnx.operators.registry import Call, axes_of, is_static, operator, tensor


@operator("MaxPool", "AveragePool")
def pool(call: Call, x: Tensor) -> Any:
    kernel = list(call.get("kernel_shape"))
    rank = len(kernel)
    stride, dilation = call.get("strides") or [1] * rank, call.get("dilations") or [1] * rank
    ceil = bool(call.get("ceil_mode", 0))
    before, after = pads_of(call, x, kernel, stride, dilation)
    plain = before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True))
    if call.op == "MaxPool":
        if call.outputs > 1:
            raise call.unsupported("the Indices output")
        maximum: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        if plain:
            return maximum(x, kernel, stride, before, dilation, ceil)
        return maximum(pad(x, before, after, float("-inf")), kernel, stride, 0, dilation, ceil)
    if any(d != 1 for d in dilation):
        raise call.unsupported("dilation")
    average: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    counted = bool(call.get("count_include_pad", 0))
    if plain:
        return average(x, kernel, stride, before, ceil, counted)
    y = average(pad(x, before, after), kernel, stride, 0, ceil)
    if counted:
        return y
    share = average(pad(torch.ones_like(x[:1, :1]), before, after), kernel, stride, 0, ceil)
    return y / share


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(call: Call, x: Tensor) -> Any:
    axes = list(range(2, x.dim()))
    return x.mean(axes, keepdim=True) if call.op == "GlobalAveragePool" else x.amax(axes, keepdim=True)


_REDUCE: dict[str, tuple[Callable[..., Tensor], Callable[..., Any] | None]] = {
    "ReduceMean": (torch.mean, None),
    "ReduceSum": (torch.sum, np.sum),
    "ReduceMax": (torch.amax, np.max),
    "ReduceMin": (torch.amin, np.min),
    "ReduceProd": (lambda x, axes, keep: x.prod(axes[0], keep), np.prod),
    "ReduceL2": (lambda x, axes, keep: x.square().sum(axes, keep).sqrt(), None),
    "ReduceL1": (lambda x, axes, keep: x.abs().sum(axes, keep), None),
    "ReduceSumSquare": (lambda x, axes, keep: x.square().sum(axes, keep), None),
}


@operator(*_REDUCE)
def reduce(call: Call, x: Any, axes: Any = None) -> Any:
    on_tensors, on_static = _REDUCE[call.op]
    chosen, keep = axes_of(call, axes), bool(call.get("keepdims", 1))
    if is_static(x) and on_static is not None:
        return np.asarray(on_static(x, axis=tuple(chosen) if chosen else None, keepdims=keep))
    x = tensor(x)
    if not chosen:
        if call.get("noop_with_empty_axes", 0):
            return x
        chosen = list(range(x.dim()))
    if call.op == "ReduceProd" and len(chosen) > 1:
        raise call.unsupported("more than one axis")
    return on_tensors(x, chosen, keep)


@operator("ArgMax")
def argmax(call: Call, x: Tensor) -> Any:
    return x.argmax(call.get("axis", 0), keepdim=bool(call.get("keepdims", 1)))
