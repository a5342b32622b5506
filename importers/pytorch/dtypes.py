"""Types of numbers: TorchScript's numbering, and what stands for each in a graph that is float32."""

import math
from typing import Any

import torch
from torch import Tensor

from banscan.errors import ModelError

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


def reduced(dtype: torch.dtype) -> torch.dtype:
    """The type that stands for one: all floating-point numbers are float32 here."""
    if dtype.is_complex or dtype in (torch.qint8, torch.quint8, torch.qint32):
        raise ModelError(f"its code computes with {str(dtype).removeprefix('torch.')}, which is not read")
    return torch.float32 if dtype.is_floating_point else dtype


def number(dtype: torch.dtype) -> int:
    """TorchScript's number of a type."""
    return DTYPES.index(dtype)


def typed(value: Any) -> torch.dtype:
    return reduced(value if isinstance(value, torch.dtype) else DTYPES[value])


def cast_to(x: Any, dtype: Any) -> Any:
    """A tensor or number in another type; nothing where it has that already."""
    wanted = typed(dtype)
    if isinstance(x, Tensor):
        return x if x.dtype == wanted else x.to(wanted)
    if not isinstance(x, bool | int | float) or wanted.is_floating_point:
        return x
    return bool(x) if wanted == torch.bool else math.trunc(x)
