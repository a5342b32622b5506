"""Numbers as integers of a few bits and back, as onnxruntime rounds them; the integers are held as whole numbers in float32."""

import math
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor

from banscan.importers.onnx import numbers
from banscan.importers.onnx.operators.registry import Call, operator, tensor

# what onnxruntime's whole-tensor scale is taken over: integers from 0 to 255
LEVELS = 255.0


@operator("QuantizeLinear", "com.microsoft::QuantizeLinear")
def quantize(call: Call, x: Tensor, scale: Any, zero: Any = None) -> Tensor:
    """round(x / scale) + zero within the limits of the type, halves to the even number; NaN is the smallest."""
    wanted, axis = call.get("output_dtype", 0), call.get("axis", 1)
    _check(call)
    if not (wanted or zero is None or isinstance(zero, np.ndarray)) or not call.constant[1]:
        raise call.unsupported("a scale or zero point computed from the pixels")
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(wanted)) if wanted else np.dtype(np.uint8) if zero is None else zero.dtype
    step, offset = _spread(x, scale, axis), 0.0 if zero is None else _spread(x, zero, axis)
    low, high = numbers.limits_of(kind)
    if kind.kind in "iu" or "int" in kind.name:
        return _added(_rounded(_numbers(x) / step, low - offset, high - offset), offset)
    dtype = getattr(torch, kind.name, None)
    if dtype is None or isinstance(offset, Tensor) or offset:
        raise call.unsupported(f"the type {kind.name}, or a zero point of it,")
    return torch.clamp(x / step, low, high).to(dtype).to(torch.float32)


@operator("DequantizeLinear", "com.microsoft::DequantizeLinear")
def dequantize(call: Call, x: Tensor, scale: Any, zero: Any = None) -> Tensor:
    """(x - zero) * scale."""
    axis = call.get("axis", 1)
    call.get("output_dtype")
    _check(call)
    moved = _added(x.float(), 0.0 if zero is None else _spread(x, zero, axis), -1)
    result: Tensor = moved * _spread(x, scale, axis)
    return result


@operator("DynamicQuantizeLinear")
def dynamic(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integers, scale and zero point of each image by itself, the latter two with axes of one: onnxruntime's of one image at a time."""
    if call.constant[0]:
        raise call.unsupported("a constant of no image")
    x = x.float()
    axis, parts = _images(call, x)
    seen = torch.nan_to_num(x, 0.0, math.inf, -math.inf).transpose(0, axis)
    rows = seen.unflatten(0, (-1, parts)).flatten(1)
    # by place, not by value: gradients go to one place of each image
    low, high = rows.min(1, keepdim=True).values.clamp(max=0.0), rows.max(1, keepdim=True).values.clamp(min=0.0)
    scale = torch.where(low == high, torch.ones_like(low), (high - low) / LEVELS)
    # no number where the scale is too small, or too large, for one
    zero = torch.nan_to_num(-low / scale, LEVELS, math.inf, -math.inf).clamp(0.0, LEVELS).round()
    sizes = [-1 if i == axis else 1 for i in range(x.dim())]
    scale, zero = (value.expand(-1, parts).reshape(sizes) for value in (scale, zero))
    return (_numbers(x / scale).round() + zero).clamp(0.0, LEVELS), scale, zero


def _check(call: Call) -> None:
    call.get("saturate")
    call.get("precision")
    if call.get("block_size", 0):
        raise call.unsupported("scales in blocks of what is no constant")


def _numbers(x: Tensor) -> Tensor:
    """x with NaN below everything, as comparisons in onnxruntime leave it."""
    return torch.nan_to_num(x.float(), -math.inf, math.inf, -math.inf)


def _rounded(ratio: Tensor, low: Any, high: Any) -> Tensor:
    return torch.clamp(ratio, low, high).round()


def _added(x: Tensor, offset: Any, sign: int = 1) -> Tensor:
    """x plus or minus a zero point, which mostly is 0."""
    if not isinstance(offset, Tensor) and offset == 0:
        return x
    result: Tensor = x + offset if sign > 0 else x - offset
    return result


def _spread(x: Tensor, parameter: Any, axis: int) -> Any:
    """One number, or a tensor that broadcasts against x: one for each place on an axis, or for each image."""
    if isinstance(parameter, np.ndarray) and parameter.size == 1:
        return float(parameter.astype(np.float64).item())
    value = tensor(parameter)
    value = value if value.is_floating_point() else value.float()
    if value.dim() != 1 or x.dim() < 2 or value.shape[0] == 1:
        return value
    return value.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


def _images(call: Call, x: Tensor) -> tuple[int, int]:
    """The axis of the images, and how many places on it belong to one: windows of an image stand there one behind the other."""
    free: dict[int, Any] = {i: cast(Any, size).node.expr for i, size in enumerate(x.shape) if isinstance(size, torch.SymInt)}
    if x.dim() > 1 and not free:  # nothing is traced
        return 0, 1
    for axis, expression in free.items() if len(free) == 1 and x.dim() > 1 else ():
        symbols = list(expression.free_symbols)
        parts = expression / symbols[0] if len(symbols) == 1 else expression
        if parts.is_Integer and (parts == 1 or axis == 0):
            return axis, int(parts)
    raise call.unsupported("values of several images on one axis")
