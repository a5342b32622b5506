"""Types of numbers: TorchScript's numbering, and what stands for each in a graph that is float32."""

import math
from dataclasses import dataclass
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


def _kind(dtype: Any) -> torch.dtype:
    """A type, given as such or by TorchScript's number."""
    return dtype if isinstance(dtype, torch.dtype) else DTYPES[dtype]


@dataclass(frozen=True)
class Types:
    """How types of floating-point numbers are held.

    Args:
        own: of the file's weights, which float32 stands for.
        exact: whether every tensor has the type that it has in the file instead.
    """

    own: torch.dtype = torch.float32
    exact: bool = False

    def held(self, dtype: Any) -> torch.dtype:
        """The type of a tensor that has this type, or that of this number, in the file; wider ones than the file's own stay.

        Raises:
            ModelError: complex or quantised numbers.
        """
        kind = _kind(dtype)
        if kind.is_complex or kind in (torch.qint8, torch.quint8, torch.qint32):
            raise ModelError(f"its code computes with {str(kind).removeprefix('torch.')}, which is not read")
        narrow = kind.is_floating_point and (kind == self.own or kind.itemsize < torch.float32.itemsize)
        return torch.float32 if narrow and not self.exact else kind

    def rounded(self, x: Tensor, dtype: Any) -> Tensor:
        """A tensor as it is held, with the values of a narrower type than the file's own."""
        kind = _kind(dtype)
        if self.exact or not kind.is_floating_point or kind == self.own or kind.itemsize >= torch.float32.itemsize:
            return x
        return x.to(kind).float()

    def cast(self, x: Any, dtype: Any) -> Any:
        """A tensor or number in another type; the same where it has that already."""
        wanted = self.held(dtype)
        if isinstance(x, Tensor):
            return self.rounded(x if x.dtype == wanted else x.to(wanted), dtype)
        if not isinstance(x, bool | int | float):
            return x
        if wanted.is_floating_point:
            return torch.tensor(x, dtype=_kind(dtype)).item()
        return bool(x) if wanted == torch.bool else math.trunc(x)

    def number(self, x: Any) -> int:
        """TorchScript's number of the type that a tensor or number has in the file."""
        if not isinstance(x, Tensor):
            return DTYPES.index(torch.int64 if isinstance(x, int) else torch.float32)
        return DTYPES.index(self.own if x.dtype == torch.float32 and not self.exact else x.dtype)
