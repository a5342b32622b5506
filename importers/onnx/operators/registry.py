"""The table of ONNX operators, and what all of them need: one node's call, values as tensors or known numbers.

Values are tensors; numpy arrays where they are known while tracing: shapes and what is computed from them; lists for sequences. An array
has dtype object where it holds symbolic integers, so that chains like Shape, Gather, Concat, Reshape never become data-dependent.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from banscan.errors import ModelError
from banscan.importers.onnx.lacking import lacking

Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}
# for known values with symbolic integers among them
SYMBOLIC: dict[str, Operator] = {}
# known numbers; no arithmetic on shapes needs more
LARGEST_TABLE = 1 << 24
# values per image, as in the normal form
LARGEST_ACTIVATION = 1 << 28
# whose result may have the size of the batch that is traced, where the file fixes another
SIZED = frozenset({"ConstantOfShape", "Expand", "Tile"})
# attributes that change nothing in a network that is run: where memory was shared, how statistics were followed, drawn numbers
WITHOUT_EFFECT = frozenset({"consumed_inputs", "is_test", "momentum", "seed"})


@dataclass(frozen=True)
class Call:
    """One node: its attributes, the opset version of its domain, how many outputs it has and the last of them that is used."""

    op: str
    name: str
    attributes: dict[str, Any]
    version: int
    outputs: int
    constant: tuple[bool, ...] = ()  # which inputs are known before any image is seen
    batch: int | None = None  # the batch size that the file fixes, if it does
    declared: int = 1
    whole: bool = False  # whether its numbers are integers, though they are held as floats: pixels, before they are cast
    images: Any = None  # the batch that is traced with, where the file fixes another
    known: bool = False  # whether it is computed here and now, because no pixel goes into it
    pixels: bool = True  # whether any pixel may go into it
    asked: set[str] = field(default_factory=set)

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute. One that no operator asks for is refused."""
        self.asked.add(key)
        return self.attributes.get(key, default)

    def unsupported(self, what: str) -> ModelError:
        """The error for what no reader should take."""
        return ModelError(f"operator {self.op} ({self.name}): {what} is not supported")

    def unknown(self, what: str) -> ModelError:
        """The error for a form that this interpreter does not have; another reader may."""
        return lacking(self.op, f"operator {self.op} ({self.name}): {what} is not supported")


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Registers a function for the operators of these names, "Conv" or with another domain "ai.onnx.ml::Scaler".

    What the function declares as Tensor it gets as one; anything else comes as it is known.

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


def symbolic(*names: str) -> Callable[[Operator], Operator]:
    """Registers a function for known values with symbols among them."""

    def register(function: Operator) -> Operator:
        SYMBOLIC.update(dict.fromkeys(names, function))
        return function

    return register


def compute(call: Call, given: list[Any]) -> tuple[Any, ...]:
    """The outputs of a node for these inputs.

    Raises:
        ModelError: inputs, outputs or attributes that the operator's function does not know.
    """
    function = OPERATORS[call.op]
    while given and given[-1] is None:
        given.pop()
    least, most, tensors = _signature(function)
    if not least <= len(given) <= most:
        raise call.unknown(f"a form with {len(given)} inputs")
    values = [v for value in given for v in (value if isinstance(value, list) else [value])]
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    known = bool(arrays) and is_static(*values)
    symbols = known and any(value.dtype == object for value in arrays)
    if symbols and call.op in SYMBOLIC:
        result = SYMBOLIC[call.op](call, *given)
    elif known and not symbols and not (call.op in SIZED and call.batch not in (None, 1)):
        with _disable_current_modes():
            call = replace(call, known=True)
            result = function(call, *_converted(given, tensors))
            result = tuple(_known(call, r) for r in result) if isinstance(result, tuple) else _known(call, result)
    else:
        result = function(call, *_converted(given, tensors))
    results = result if isinstance(result, tuple) else (result,)
    if call.outputs > len(results):
        raise call.unknown(f"output {call.outputs}")
    for key in call.attributes.keys() - call.asked - WITHOUT_EFFECT:
        if not _default(call, key):
            raise call.unknown(f"the attribute {key}")
    return results


def _known(call: Call, value: Any) -> Any:
    if isinstance(value, list):
        return [_known(call, v) for v in value]
    if not isinstance(value, Tensor):
        return value
    check_table(call, value.numel())
    array: np.ndarray = value.numpy()
    return array


def _converted(given: list[Any], tensors: tuple[bool, ...]) -> list[Any]:
    wanted = tensors + tensors[-1:] * len(given)
    return [tensor(value) if want and isinstance(value, np.ndarray) else value for value, want in zip(given, wanted, strict=False)]


@cache
def _signature(function: Operator) -> tuple[int, float, tuple[bool, ...]]:
    """The least and the most inputs that a function takes, and which of them it wants as tensors."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    least = sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters)
    return least, float("inf") if several else len(parameters), tuple("Tensor" in str(p.annotation) for p in parameters)


def _default(call: Call, key: str) -> bool:
    """Whether an attribute has the value that it has where it is left out."""
    domain, _, name = call.op.rpartition("::")
    try:
        declared = onnx.defs.get_schema(name, call.version, domain).attributes[key].default_value
        return bool(onnx.helper.get_attribute_value(declared) == onnx.helper.get_attribute_value(_attribute(key, call.attributes[key])))
    except (onnx.defs.SchemaError, KeyError, ValueError, TypeError):
        return False


def _attribute(key: str, value: Any) -> onnx.AttributeProto:
    return onnx.helper.make_attribute(key, value)


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
    if value.dtype in (np.uint16, np.uint32, np.uint64):  # torch hardly computes with these
        value = value.astype(np.int64)
    return torch.from_numpy(np.array(value))


def integers(call: Call, value: Any) -> list[Any]:
    """A shape, axes or pads value as a list of (symbolic) integers."""
    if isinstance(value, Tensor):
        raise call.unsupported("a shape or axis computed from the pixels")
    return [e if isinstance(e, torch.SymInt) else int(e) for e in np.asarray(value).ravel()]


def numbers(call: Call, value: Any) -> list[float]:
    """Factors, bounds or fill values that have to be known."""
    if isinstance(value, Tensor):
        raise call.unsupported("a number computed from the pixels")
    return [float(e) for e in np.asarray(value).ravel()]


def check_table(call: Call, count: float) -> None:
    """Raises ModelError for more known numbers than arithmetic on shapes needs; a hostile file could ask for all memory."""
    if not count <= LARGEST_TABLE:
        raise call.unsupported(f"a table of {count:,.0f} values")


def check_sizes(call: Call, sizes: list[Any]) -> None:
    """Raises ModelError for a tensor of these sizes where it is larger than any classifier needs; the batch does not count.

    One that no pixel goes into is a table, and is computed in full.
    """
    count = 1.0
    for size in sizes:
        count *= 1 if isinstance(size, torch.SymInt) else max(0, size)
    if call.known or not call.pixels:
        check_table(call, count)
    if count > LARGEST_ACTIVATION:
        raise ModelError(f"operator {call.op} ({call.name}) makes {count:,.0f} values for an image; the file is damaged or hostile")


def axes_of(call: Call, given: Any) -> list[int] | None:
    """Axes from an input, as newer opsets give them, or from the attribute; None where there are none."""
    axes = call.get("axes")
    if given is not None:
        return integers(call, given)
    return None if axes is None else list(axes)
