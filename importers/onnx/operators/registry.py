"""The table of ONNX operators, and what all of them need: one node's call, values as tensors or known integers.

Values are tensors, or numpy arrays for integers that are known while tracing: shapes and what is computed from them. Such an array
has dtype object where it holds symbolic integers, so that chains like Shape, Gather, Concat, Reshape never become data-dependent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from banscan.errors import ModelError

Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}
# known integers; no arithmetic on shapes needs more
LARGEST_TABLE = 1 << 24


@dataclass(frozen=True)
class Call:
    """One node: its attributes, the opset version of its domain and how many outputs are used."""

    op: str
    name: str
    attributes: dict[str, Any]
    version: int
    outputs: int
    constant: tuple[bool, ...] = ()  # which inputs are known before any image is seen
    batch: int | None = None  # the batch size that the file fixes, if it does

    def get(self, key: str, default: Any = None) -> Any:
        return self.attributes.get(key, default)

    def unsupported(self, what: str) -> ModelError:
        return ModelError(f"operator {self.op} ({self.name}): {what} is not supported")


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Registers a function for the operators of these names, "Conv" or with another domain "ai.onnx.ml::Scaler".

    Raises:
        ValueError: one of them has a function already.
    """

    def register(function: Operator) -> Operator:
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"the operator {name} is registered twice")
            OPERATORS[name] = function
        return function

    return register


def is_static(*values: Any) -> bool:
    """Whether all values are known while tracing, or left out."""
    return all(value is None or isinstance(value, np.ndarray) for value in values)


def tensor(value: Any) -> Tensor:
    """A value as a tensor; symbolic integers are stacked."""
    if isinstance(value, Tensor):
        return value
    if value.dtype == object:
        if not value.size:
            return torch.zeros(value.shape, dtype=torch.int64)
        return torch.stack([torch.scalar_tensor(e, dtype=torch.int64) for e in value.ravel()]).reshape(value.shape)
    return torch.from_numpy(np.array(value))


def integers(call: Call, value: Any) -> list[Any]:
    """A shape, axes or pads value as a list of (symbolic) integers."""
    if isinstance(value, Tensor):
        raise call.unsupported("a shape or axis computed from the pixels")
    return [e if isinstance(e, torch.SymInt) else int(e) for e in np.asarray(value).ravel()]


def check_table(call: Call, count: float) -> None:
    """Raises ModelError for more known integers than arithmetic on shapes needs; a hostile file could ask for all memory."""
    if not count <= LARGEST_TABLE:
        raise call.unsupported(f"a table of {count:,.0f} values")


def axes_of(call: Call, given: Any) -> list[int] | None:
    """Axes from an input, as newer opsets give them, or from the attribute; None where there are none."""
    if given is not None:
        return integers(call, given)
    axes = call.get("axes")
    return None if axes is None else list(axes)
