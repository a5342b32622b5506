"""Pooling over windows and over all of a map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.padding import pad, pads_of
from banscan.importers.onnx.operators.registry import Call, operator


@operator("MaxPool", "AveragePool", "LpPool")
def pool(call: Call, x: Tensor) -> Any:
    kernel = list(call.get("kernel_shape"))
    rank = len(kernel)
    stride, dilation = call.get("strides") or [1] * rank, call.get("dilations") or [1] * rank
    ceil, counted, p = bool(call.get("ceil_mode", 0)), bool(call.get("count_include_pad", 0)), call.get("p", 2)
    call.get("storage_order")  # of indices, which are not computed
    before, after = pads_of(call, x, kernel, stride, dilation)
    after_ = [_reach(x.shape[2 + i], kernel[i], stride[i], dilation[i], before[i], after[i], ceil) for i in range(rank)]
    plain = before == after == after_ and all(2 * p <= k for p, k in zip(before, kernel, strict=True))
    if call.op == "MaxPool":
        maximum: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        x, before = (x, before) if plain else (pad(x, before, after_, float("-inf")), [0] * rank)
        return maximum(x, kernel, stride, before, dilation)
    average: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    if call.op == "AveragePool" and plain and all(d == 1 for d in dilation):
        return average(x, kernel, stride, before, False, counted)
    filled = pad(x if call.op == "AveragePool" else x.abs() ** p, before, after_)
    total = _sums(filled, kernel, stride, dilation)
    if call.op == "LpPool":
        return total ** (1 / p)
    counts = np.ones((1, 1), np.float32)
    for i in range(rank):
        low, high = (-before[i], x.shape[2 + i] + after[i]) if counted else (0, x.shape[2 + i])
        starts = np.arange(total.shape[2 + i])[:, None] * stride[i] - before[i] + np.arange(kernel[i]) * dilation[i]
        counts = counts[..., None] * ((starts >= low) & (starts < high)).sum(1).astype(np.float32)
    return total / torch.from_numpy(counts)


def _reach(size: Any, kernel: int, stride: int, dilation: int, before: int, after: int, ceil: bool) -> int:
    """Padding behind the last value, with what the last window needs where the number of windows is rounded up."""
    span = (kernel - 1) * dilation + 1
    count = -((span - size - before - after) // stride) + 1 if ceil else (size + before + after - span) // stride + 1
    if ceil and (count - 1) * stride >= size + before:
        count -= 1  # a window that begins behind all values
    return int((count - 1) * stride + span - size - before) if ceil else after


def _sums(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """The sum over every window of values that are padded already, one axis after the other."""
    for i in range(len(kernel)):
        axis = 2 + i
        count = (x.shape[axis] - (kernel[i] - 1) * dilation[i] - 1) // stride[i] + 1
        index = [slice(None)] * axis
        parts = [x[(*index, slice(k * dilation[i], k * dilation[i] + (count - 1) * stride[i] + 1, stride[i]))] for k in range(kernel[i])]
        x = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
    return x


@operator("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call, x: Tensor) -> Tensor:
    axes = list(range(2, x.dim()))
    if call.op == "GlobalLpPool":
        p = call.get("p", 2)
        powers: Tensor = (x.abs() ** p).sum(axes, keepdim=True) ** (1 / p)
        return powers
    return x.mean(axes, keepdim=True) if call.op == "GlobalAveragePool" else x.amax(axes, keepdim=True)
