"""Sequences and optional values, which are lists and values here: they come from exporters, not from networks."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from banscan.importers.onnx.operators.registry import Call, integers, operator, tensor


@operator("SequenceConstruct")
def construct(call: Call, *values: Any) -> list[Any]:
    return list(values)


@operator("SequenceEmpty")
def empty(call: Call) -> list[Any]:
    call.get("dtype")
    return []


@operator("SequenceAt")
def at(call: Call, values: list[Any], place: Any) -> Any:
    return values[integers(call, place)[0]]


@operator("SequenceInsert")
def insert(call: Call, values: list[Any], value: Any, place: Any = None) -> list[Any]:
    at_ = len(values) if place is None else integers(call, place)[0]
    return [*values[:at_], value, *values[at_:]]


@operator("SequenceErase")
def erase(call: Call, values: list[Any], place: Any = None) -> list[Any]:
    at_ = (-1 if place is None else integers(call, place)[0]) % len(values)
    return [*values[:at_], *values[at_ + 1 :]]


@operator("SequenceLength")
def length(call: Call, values: list[Any]) -> Any:
    return np.array(len(values), np.int64)


@operator("ConcatFromSequence")
def concat(call: Call, values: list[Any]) -> Tensor:
    axis, new = call.get("axis"), call.get("new_axis", 0)
    parts = [tensor(v) for v in values]
    return torch.stack(parts, axis) if new else torch.cat(parts, axis)


@operator("SplitToSequence")
def split(call: Call, x: Tensor, sizes: Any = None) -> list[Tensor]:
    axis, keep = call.get("axis", 0), call.get("keepdims", 1)
    if sizes is None:
        parts = torch.split(x, 1, axis)
        return list(parts) if keep else [p.squeeze(axis) for p in parts]
    wanted = integers(call, sizes)
    return list(torch.split(x, wanted if np.ndim(sizes) else wanted[0], axis))


@operator("Optional")
def optional(call: Call, value: Any = None) -> Any:
    call.get("type")
    return value


@operator("OptionalGetElement")
def optional_get(call: Call, value: Any) -> Any:
    return value


@operator("OptionalHasElement")
def optional_has(call: Call, value: Any = None) -> Any:
    return np.array(value is not None)
