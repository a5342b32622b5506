"""Reductions over axes, and where the largest values are."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from banscan.importers.onnx.operators.registry import Call, axes_of, integers, operator


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keep, dtype=x.dtype)
    return x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keep)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(x.sum(axes, keep, dtype=x.dtype), count, rounding_mode="trunc")


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keep) if x.is_floating_point() else x.sum(axes, keep, dtype=x.dtype)


_REDUCE: dict[str, Callable[..., Tensor]] = {
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep, dtype=x.dtype),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keep, dtype=x.dtype).sqrt().to(x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep, dtype=x.dtype),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": torch.logsumexp,
}


@operator(*_REDUCE)
def reduce(call: Call, x: Tensor, axes: Any = None) -> Tensor:
    chosen, keep = axes_of(call, axes), bool(call.get("keepdims", 1))
    nothing = call.get("noop_with_empty_axes", 0)
    if not chosen:
        if nothing:
            return x
        chosen = list(range(x.dim()))
    return _REDUCE[call.op](x, chosen, keep) if x.dim() else _REDUCE[call.op](x.reshape(1), [0], False)


@operator("ArgMax", "ArgMin")
def argmax(call: Call, x: Tensor) -> Tensor:
    axis, keep, last = call.get("axis", 0), bool(call.get("keepdims", 1)), call.get("select_last_index", 0)
    function: Any = torch.argmax if call.op == "ArgMax" else torch.argmin
    best = math.inf if call.op == "ArgMax" else -math.inf
    if last:
        first = torch.isnan(x.narrow(axis, 0, 1))
        x = torch.nan_to_num(x, -best, math.inf, -math.inf) if x.is_floating_point() else x
        found: Tensor = x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)
        return torch.where(first if keep else first.squeeze(axis), 0, found)
    result: Tensor = function(_numbers(x, axis, best) if x.is_floating_point() else x, axis, keepdim=keep)
    return result


def _numbers(x: Tensor, axis: int, best: float) -> Tensor:
    """x for comparisons as onnxruntime makes them, one by one from the first on: NaN loses all, so that in the first place it stays."""
    first = torch.arange(x.shape[axis], device=x.device) == 0
    places = torch.where(first, best, -best).to(x.dtype).reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])
    return torch.where(torch.isnan(x), places, x)


@operator("TopK")
def top_k(call: Call, x: Tensor, count: Any = None) -> tuple[Tensor, Tensor]:
    axis, largest, ordered = call.get("axis", -1), bool(call.get("largest", 1)), call.get("sorted", 1)
    k = call.get("k") if count is None else integers(call, count)[0]
    if not isinstance(k, int) or k < 1:
        raise call.unsupported("a free number of values")
    if not ordered:
        raise call.unknown("an order that the runtime is free to choose")
    # a stable order, as onnxruntime has it where values are equal; NaN is the largest there too
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


@operator("LpNormalization")
def lp_normalization(call: Call, x: Tensor) -> Tensor:
    axis, p = call.get("axis", -1), call.get("p", 2)
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@operator("MeanVarianceNormalization")
def mean_variance(call: Call, x: Tensor) -> Tensor:
    old = call.version < 9
    axes = call.get("axes", [0, 2, 3])
    if old:
        axes = [0, 2, 3] if call.get("across_channels", 0) == 0 else [0, 1, 2, 3]
    if 0 in [a % x.dim() for a in axes]:
        raise call.unsupported("normalisation over the images of a batch, whose answers depend on each other,")
    centred = x - x.mean(axes, keepdim=True)
    scaled: Tensor = centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)
    return scaled
