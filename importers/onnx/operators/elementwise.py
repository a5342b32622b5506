"""Activations, arithmetic and comparisons, value by value; on known integers the arithmetic of shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, is_static, operator, tensor

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Mish": F.mish,
    "HardSwish": F.hardswish,
    "Not": torch.logical_not,
}


@operator(*_UNARY)
def unary(call: Call, x: Any) -> Tensor:
    return _UNARY[call.op](tensor(x))


@operator("LeakyRelu")
def leaky_relu(call: Call, x: Tensor) -> Tensor:
    return F.leaky_relu(x, call.get("alpha", 0.01))


@operator("Elu")
def elu(call: Call, x: Tensor) -> Tensor:
    return F.elu(x, call.get("alpha", 1.0))


@operator("Selu")
def selu(call: Call, x: Tensor) -> Tensor:
    return F.selu(x)


@operator("Celu")
def celu(call: Call, x: Tensor) -> Tensor:
    return F.celu(x, call.get("alpha", 1.0))


@operator("HardSigmoid")
def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    return torch.clamp(x * call.get("alpha", 0.2) + call.get("beta", 0.5), 0.0, 1.0)


@operator("Gelu")
def gelu(call: Call, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=call.get("approximate", "none"))


@operator("Swish")
def swish(call: Call, x: Tensor) -> Tensor:
    return x * torch.sigmoid(x * call.get("alpha", 1.0))


@operator("PRelu")
def prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


@operator("Softmax", "LogSoftmax")
def softmax(call: Call, x: Tensor) -> Tensor:
    function = F.softmax if call.op == "Softmax" else F.log_softmax
    if call.version >= 13:
        return function(x, call.get("axis", -1))
    axis = call.get("axis", 1) % x.dim()
    return function(x, -1) if axis == x.dim() - 1 else function(x.flatten(axis), -1).reshape(x.shape)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _divide_static(a: Any, b: Any) -> Any:
    # shapes are never negative, so floor division is ONNX's truncation
    return a // b if a.dtype.kind in "iuO" else a / b


_BINARY: dict[str, tuple[Callable[..., Tensor], Callable[..., Any]]] = {
    "Add": (torch.add, np.add),
    "Sub": (torch.sub, np.subtract),
    "Mul": (torch.mul, np.multiply),
    "Div": (_divide, _divide_static),
    "Mod": (torch.remainder, np.mod),
    "Equal": (torch.eq, np.equal),
    "Greater": (torch.gt, np.greater),
    "Less": (torch.lt, np.less),
    "GreaterOrEqual": (torch.ge, np.greater_equal),
    "LessOrEqual": (torch.le, np.less_equal),
    "And": (torch.logical_and, np.logical_and),
    "Or": (torch.logical_or, np.logical_or),
}


@operator(*_BINARY)
def binary(call: Call, a: Any, b: Any) -> Any:
    on_tensors, on_static = _BINARY[call.op]
    if is_static(a, b):
        return np.asarray(on_static(a, b))
    # a scalar stays a scalar: it takes the other side's dtype and device
    if isinstance(b, np.ndarray) and b.size == 1 and b.ndim <= a.dim():
        return on_tensors(a, b.item()) if call.op != "Div" else a / b.item() if a.is_floating_point() else _divide(a, tensor(b))
    if isinstance(a, np.ndarray) and a.size == 1 and call.op in ("Add", "Mul"):
        return on_tensors(b, a.item())
    return on_tensors(tensor(a), tensor(b))


@operator("Pow")
def power(call: Call, a: Any, b: Any) -> Tensor:
    exponent = b.item() if isinstance(b, np.ndarray) and b.size == 1 else tensor(b)
    return torch.pow(tensor(a), exponent)


@operator("Sum", "Max", "Min", "Mean")
def variadic(call: Call, *values: Any) -> Any:
    functions: dict[str, Any] = {"Sum": torch.add, "Mean": torch.add, "Max": torch.maximum, "Min": torch.minimum}
    total = tensor(values[0])
    for value in values[1:]:
        total = functions[call.op](total, tensor(value))
    return total / len(values) if call.op == "Mean" else total


@operator("Neg", "Abs")
def sign(call: Call, x: Any) -> Any:
    return -x if call.op == "Neg" else abs(x)


@operator("Clip")
def clip(call: Call, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    bounds = [call.get(key) if value is None else tensor(value).item() for key, value in (("min", low), ("max", high))]
    return x if bounds == [None, None] else torch.clamp(x, *bounds)


@operator("Cast")
def cast(call: Call, x: Any) -> Any:
    to = onnx.helper.tensor_dtype_to_np_dtype(call.get("to"))
    if isinstance(x, np.ndarray) and to.kind in "iub":
        return x if x.dtype == object else x.astype(to)
    if to.kind == "f" or to.name == "bfloat16":
        # the whole graph is computed in float32
        return tensor(x).float()
    return tensor(x).to(torch.from_numpy(np.zeros(0, to)).dtype)


@operator("ai.onnx.ml::Scaler")
def scaler(call: Call, x: Tensor) -> Tensor:
    """scikit-learn's StandardScaler."""
    offset, scale = (torch.tensor(call.get(key, [default]), dtype=torch.float32) for key, default in (("offset", 0.0), ("scale", 1.0)))
    return (x - offset) * scale


@operator("Identity")
def identity(call: Call, x: Any) -> Any:
    return x


@operator("Dropout")
def dropout(call: Call, x: Any, *_: Any) -> Any:
    """onnxruntime drops nothing, in training mode neither; its mask keeps everything."""
    for key in ("ratio", "is_test", "seed"):
        call.get(key)
    return x if call.outputs == 1 else (x, torch.ones_like(tensor(x), dtype=torch.bool))


@operator("If")
def condition(call: Call, value: Any) -> bool:
    """Which branch; what runs it is the interpreter."""
    if not is_static(value):
        raise call.unsupported("a condition computed from the pixels")
    return bool(np.asarray(value).ravel()[0])


@operator("Where")
def where(call: Call, mask: Any, a: Any, b: Any) -> Any:
    if is_static(mask, a, b):
        return np.where(mask.astype(bool), a, b)
    return torch.where(tensor(mask), tensor(a), tensor(b))
