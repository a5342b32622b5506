"""Arithmetic, comparisons and choices, value by value."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, is_static, numbers, operator, tensor

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Not": torch.logical_not,
    "BitwiseNot": torch.bitwise_not,
    "IsNaN": torch.isnan,
    "Det": torch.det,
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Erf": torch.erf,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Mish": F.mish,
    "HardSwish": F.hardswish,
}


@operator(*_UNARY)
def unary(call: Call, x: Tensor) -> Tensor:
    return _UNARY[call.op](x)


@operator("IsInf")
def is_inf(call: Call, x: Tensor) -> Tensor:
    sides = [math.inf] * call.get("detect_positive", 1) + [-math.inf] * call.get("detect_negative", 1)
    found = torch.zeros_like(x, dtype=torch.bool)
    for side in sides:
        found = found | (x == side)
    return found


def _divide(a: Tensor, b: Any) -> Tensor:
    whole = not a.is_floating_point() and not (b.is_floating_point() if isinstance(b, Tensor) else isinstance(b, float))
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


_BINARY: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": _divide,
    "Pow": torch.pow,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "Less": torch.lt,
    "GreaterOrEqual": torch.ge,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}


@operator(*_BINARY)
def binary(call: Call, a: Any, b: Any) -> Tensor:
    function, b = _BINARY[call.op], _aligned(call, a, b)
    if call.op == "Div" and call.whole:
        return torch.div(tensor(a), tensor(b), rounding_mode="trunc")
    if call.op == "Pow":
        return _power(tensor(a), b)
    # a scalar stays a scalar: it takes the other side's dtype and device
    if isinstance(a, Tensor) and _is_number(b) and b.ndim <= a.dim():
        return function(a, b.item())
    if isinstance(b, Tensor) and _is_number(a) and a.ndim <= b.dim() and call.op in ("Add", "Mul"):
        return function(b, a.item())
    return function(tensor(a), tensor(b))


def _is_number(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size == 1 and value.dtype != object


def _aligned(call: Call, a: Any, b: Any) -> Any:
    """Up to opset 6 the second operand is moved to an axis by an attribute."""
    spread, axis = call.get("broadcast", 0), call.get("axis")
    if not spread or axis is None or b.ndim == 0:
        return b
    trailing = a.ndim - axis % a.ndim - b.ndim
    return b.reshape((*b.shape, *(1,) * trailing))


def _power(a: Tensor, b: Any) -> Tensor:
    if _is_number(b) and b.ndim <= a.dim():
        power: Tensor = torch.pow(a, b.item())
    else:
        power = torch.pow(a, tensor(b))
    return power if power.dtype == a.dtype else power.to(a.dtype)


@operator("Mod")
def modulo(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if call.get("fmod", 0) else torch.remainder(a, b)


@operator("BitShift")
def shift(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return torch.bitwise_left_shift(a, b) if call.get("direction") == "LEFT" else torch.bitwise_right_shift(a, b)


@operator("Sum", "Max", "Min", "Mean")
def variadic(call: Call, first: Tensor, *others: Tensor) -> Tensor:
    functions: dict[str, Any] = {"Sum": torch.add, "Mean": torch.add, "Max": torch.maximum, "Min": torch.minimum}
    total = first
    for value in others:
        total = functions[call.op](total, value)
    return total / (1 + len(others)) if call.op == "Mean" else total


@operator("Clip")
def clip(call: Call, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    given = [call.get(key) if value is None else value for key, value in (("min", low), ("max", high))]
    if not any(isinstance(value, Tensor) for value in given):
        bounds = [value.item() if isinstance(value, np.ndarray) else value for value in given]
        if bounds == [None, None]:
            return x
        # where the bounds are the wrong way round the upper one counts, in torch as in ONNX
        return torch.clamp(x, *bounds)
    for value, function in zip(given, (torch.maximum, torch.minimum), strict=True):
        x = x if value is None else function(x, tensor(value).to(x.dtype))
    return x


@operator("Cast")
def cast(call: Call, x: Tensor) -> Tensor:
    for key in ("saturate", "round_mode"):  # for 8-bit floats only
        call.get(key)
    to = call.get("to")
    return as_type(call, x, onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(to) if isinstance(to, str) else to))


@operator("CastLike")
def cast_like(call: Call, x: Tensor, like: Tensor) -> Tensor:
    call.get("saturate")
    call.get("round_mode")
    return x if x.dtype == like.dtype else x.to(like.dtype)


def as_type(call: Call, x: Tensor, to: np.dtype) -> Tensor:
    """The graph is computed in float32, but a cast to a narrower type rounds, and what is cast to a wider one is computed in that.

    Pixels that are integers in the file are floats here.
    """
    if to.kind == "f" or to.name == "bfloat16":
        kind = getattr(torch, to.name)
        return x.to(kind) if kind.itemsize >= 4 else x.to(kind).float()
    if to.kind not in "iub":
        raise call.unknown(f"the type {to}")
    if call.whole and to.kind in "iu":
        return x
    if to.kind == "u" and to.itemsize > 1 and x.is_floating_point():
        raise call.unknown(f"a cast to {to}, whose arithmetic wraps around,")
    return x.to(tensor(np.zeros(0, to)).dtype)


@operator("Identity")
def identity(call: Call, x: Any) -> Any:
    return x


@operator("Dropout")
def dropout(call: Call, x: Any, ratio: Any = None, training: Any = None) -> Any:
    """What it is given, and a mask that keeps everything; in training mode it would draw random numbers."""
    for key in ("ratio", "is_test", "seed"):
        call.get(key)
    off = training is None or (is_static(training) and not np.asarray(training).any())
    if not off and not (is_static(ratio) and np.asarray(0.5 if ratio is None else ratio).max(initial=0) == 0):
        raise call.unsupported("training mode, in which its answers are random (export the model after model.eval()),")
    return x if call.outputs == 1 else (x, torch.ones_like(tensor(x), dtype=torch.bool))


@operator("If")
def condition(call: Call, value: Any) -> bool:
    """Which branch; what runs it is the interpreter."""
    if not is_static(value):
        raise call.unsupported("a condition computed from the pixels")
    return bool(np.asarray(value).ravel()[0])


@operator("Where")
def where(call: Call, mask: Tensor, a: Any, b: Any) -> Tensor:
    return torch.where(mask if mask.dtype == torch.bool else mask.bool(), *_alike(a, b))


def _alike(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """A known number takes the other's dtype: pixels that are integers in the file are floats here."""
    a, b = tensor(a), tensor(b)
    return (a.to(b.dtype), b) if b.is_floating_point() else (a, b.to(a.dtype))


@operator("CumSum", "CumProd")
def cumulative(call: Call, x: Tensor, axis: Any) -> Tensor:
    along = int(numbers(call, axis)[0])
    function = torch.cumsum if call.op == "CumSum" else torch.cumprod
    backwards, exclusive = call.get("reverse", 0), call.get("exclusive", 0)
    x = x.flip(along) if backwards else x
    if exclusive:
        first = torch.full_like(x.narrow(along, 0, 1), 0 if call.op == "CumSum" else 1)
        x = torch.cat((first, x.narrow(along, 0, x.shape[along] - 1)), along)
    total = function(x, along, dtype=x.dtype)
    return total.flip(along) if backwards else total
