"""TorchScript's operators as Python calls: arithmetic on sizes stays arithmetic, so that a free batch stays free; the rest is torch's."""

import math
import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from banscan.errors import ModelError

Operation = Callable[..., Any]

# in the order of TorchScript's numbering
DTYPES = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.bool,
    torch.qint8,
    torch.quint8,
    torch.qint32,
    torch.bfloat16,
)
MEMORY_FORMATS = (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)


def _size(x: Tensor, dim: int | None = None) -> Any:
    return list(x.shape) if dim is None else x.shape[dim]


def _number(x: Any) -> Any:
    return x.item() if isinstance(x, Tensor) else x


def _convolution(
    x: Tensor, w: Tensor, b: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, out: Any, groups: int, *_: Any
) -> Any:
    """As the plain operator of its dimension, which every later step knows."""
    dims = w.dim() - 2
    if transposed:
        name = f"conv_transpose{dims}d" + (".input" if dims > 1 else "")
        return _aten(name)(x, w, b, stride, padding, out, groups, dilation)
    return _aten(f"conv{dims}d")(x, w, b, stride, padding, dilation, groups)


def _batch_norm(x: Tensor, w: Any, b: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, cudnn: bool) -> Any:
    return _aten("batch_norm")(x, w, b, mean, var, False, momentum, eps, False)


def _view(x: Tensor, shape: Any) -> Any:
    """Copies where it must: the layout in memory is not what it was in the file's own runtime."""
    return _aten("reshape")(x, shape) if isinstance(shape, list) else _aten("view.dtype")(x, DTYPES[shape])


def _append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def _isinstance(*_: Any) -> Any:
    raise ModelError("its code asks for the type of a value, which cannot be traced; export it with torch.jit.trace instead of script")


# whatever the arguments are
SPECIAL: dict[str, Operation] = {
    "aten::_convolution": _convolution,
    "aten::batch_norm": _batch_norm,
    "aten::dropout": lambda x, p, training: x,
    "aten::feature_dropout": lambda x, p, training: x,
    "aten::alpha_dropout": lambda x, p, training: x,
    "aten::detach": lambda x: x,
    "aten::contiguous": lambda x, *_: x,
    "aten::cpu": lambda x: x,
    "aten::view": _view,
    "aten::size": _size,
    "aten::dim": lambda x: x.dim(),
    "aten::len": lambda x: x.shape[0] if isinstance(x, Tensor) else len(x),
    "aten::numel": lambda x: x.numel(),
    "aten::__getitem__": lambda x, i: x[i],
    "aten::append": _append,
    "aten::list": list,
    "aten::__contains__": lambda x, v: v in x,
    "aten::Int": lambda x: _number(x) if not isinstance(x, float | bool) else int(x),
    "aten::Float": lambda x: float(_number(x)),
    "aten::Bool": lambda x: bool(_number(x)),
    "aten::IntImplicit": _number,
    "aten::FloatImplicit": _number,
    "aten::ScalarImplicit": _number,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__not__": operator.not_,
    "aten::is_floating_point": lambda x: x.is_floating_point(),
    "aten::format": lambda text, *values: text.format(*values),
    "aten::warn": lambda *_: None,
    "aten::__range_length": lambda a, b, step: len(range(a, b, step)),
    "aten::__derive_index": lambda i, a, step: a + i * step,
    "prim::NumToTensor": lambda x: x,
    "prim::ListConstruct": lambda *values: list(values),
    "prim::TupleConstruct": lambda *values: tuple(values),
    "prim::TupleIndex": lambda values, i: values[i],
    "prim::DictConstruct": lambda *pairs: dict(zip(pairs[::2], pairs[1::2], strict=True)),
    "prim::dtype": lambda x: x.dtype,
    "prim::device": lambda x: "cpu",
    "prim::is_cuda": lambda x: False,
    "prim::data": lambda x: x,
    "prim::unchecked_cast": lambda x: x,
    "prim::unchecked_unwrap_optional": lambda x: x,
    "prim::Uninitialized": lambda: None,
    "prim::isinstance": _isinstance,
    "prim::min": lambda *v: min(v[0]) if len(v) == 1 else min(v),
    "prim::max": lambda *v: max(v[0]) if len(v) == 1 else max(v),
}


def _divide(a: Any, b: Any, mode: str | None = None) -> Any:
    return a // b if mode in ("floor", "trunc") else a / b


# when no argument is a tensor
ARITHMETIC: dict[str, Operation] = {
    "aten::add": lambda a, b, alpha=1: a + b,
    "aten::sub": lambda a, b, alpha=1: a - b,
    "aten::rsub": lambda a, b, alpha=1: b - a,
    "aten::mul": operator.mul,
    "aten::div": _divide,
    "aten::floordiv": operator.floordiv,
    "aten::floor_divide": operator.floordiv,
    "aten::remainder": operator.mod,
    "aten::mod": operator.mod,
    "aten::pow": operator.pow,
    "aten::neg": operator.neg,
    "aten::sqrt": math.sqrt,
    "aten::floor": math.floor,
    "aten::ceil": math.ceil,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::__and__": lambda a, b: a and b,
    "aten::__or__": lambda a, b: a or b,
    "aten::slice": lambda values, start=None, end=None, step=1: values[start:end:step],
}


def call(name: str, arguments: list[Any]) -> Any:
    """One operator, "aten::add.Tensor" or "prim::min", on values.

    Raises:
        ModelError: it is not known, or needs what a traced graph cannot hold.
    """
    plain = name.partition(".")[0]
    if plain in SPECIAL:
        return SPECIAL[plain](*arguments)
    if plain in ARITHMETIC and not any(isinstance(a, Tensor) for a in arguments):
        return ARITHMETIC[plain](*arguments)
    if not plain.startswith("aten::"):
        raise ModelError(f"operator {plain} is not supported")
    packet, _, overload = name.removeprefix("aten::").partition(".")
    # a graph in which nothing is written in place is the same for all later steps
    if in_place(name) and hasattr(torch.ops.aten, packet[:-1]):
        packet = packet[:-1]
    target = _aten(f"{packet}.{overload}")
    positional, named = [], {}
    for argument, value in zip(target._schema.arguments, arguments, strict=False):
        if argument.name == "device" or (argument.name in ("pin_memory", "layout") and value is None):
            continue
        value = _typed(argument.name, value)
        if isinstance(argument.type, torch.TensorType) and isinstance(value, bool | int | float):
            value = torch.tensor(value)
        if argument.kwarg_only:
            named[argument.name] = value
        else:
            positional.append(value)
    return target(*positional, **named)


def in_place(name: str) -> bool:
    """Whether an operator writes its result into its first argument."""
    plain = name.partition(".")[0]
    return plain.endswith("_") and not plain.endswith("__")


def _typed(name: str, value: Any) -> Any:
    """Numbers that stand for types."""
    if name == "dtype" and isinstance(value, int):
        return DTYPES[value]
    if name == "memory_format" and isinstance(value, int):
        return MEMORY_FORMATS[value]
    if name == "layout":
        return torch.strided
    return value


def _aten(name: str) -> Any:
    packet, _, overload = name.partition(".")
    found = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
    if found is None:
        raise ModelError(f"operator aten::{name} is not known to PyTorch {torch.__version__}")
    return cast(Any, found)
