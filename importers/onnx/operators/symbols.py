"""Arithmetic on shapes with the batch among them: known values whose elements are numbers or symbols, in numpy arrays of objects."""

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch

from banscan.importers.onnx.operators.registry import Call, axes_of, integers, symbolic


def _sizes(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Arithmetic in which a size and 2.0 make an integer, so that it stays a size."""

    def computed(a: Any, b: Any) -> Any:
        if isinstance(a, torch.SymInt) or isinstance(b, torch.SymInt):
            a, b = (int(e) if isinstance(e, float | np.floating) and float(e).is_integer() else e for e in (a, b))
        return function(a, b)

    elementwise: Callable[[Any, Any], Any] = np.frompyfunc(computed, 2, 1)
    return elementwise


def _over(a: Any, b: Any) -> Any:
    whole = (int, np.integer, torch.SymInt)
    if isinstance(b, float | np.floating) and float(b) == 1:
        return a
    # sizes are never negative, so floor division is ONNX's truncation
    return a // b if isinstance(a, whole) and isinstance(b, whole) else a / b


BINARY: dict[str, Any] = {
    "Add": _sizes(operator.add),
    "Sub": _sizes(operator.sub),
    "Mul": _sizes(operator.mul),
    "Div": np.frompyfunc(_over, 2, 1),
    "Mod": np.mod,
    "Max": np.frompyfunc(torch.sym_max, 2, 1),
    "Min": np.frompyfunc(torch.sym_min, 2, 1),
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
}


COMPARISONS = frozenset({"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"})


def _check(call: Call, first: Any, second: Any) -> None:
    """Raises ModelError where a number of images would decide; that it is not -1 or 0, which stand for free sizes, is known."""
    for a, b in np.broadcast(first, second):
        for one, other in ((a, b), (b, a)):
            if isinstance(one, torch.SymInt) and not isinstance(other, torch.SymInt) and other >= 1:
                raise call.unsupported("a comparison with the number of images")


@symbolic(*BINARY)
def binary(call: Call, first: Any, *others: Any) -> Any:
    call.get("fmod")
    for other in others:
        if call.op in COMPARISONS:
            _check(call, first, other)
        first = np.asarray(BINARY[call.op](first, other))
    return first


@symbolic("Neg", "Abs", "Identity", "Ceil", "Floor", "Round")
def unary(call: Call, x: Any) -> Any:
    if call.op in ("Ceil", "Floor", "Round"):
        functions: dict[str, Any] = {"Ceil": math.ceil, "Floor": math.floor, "Round": round}
        rounded = [e if isinstance(e, torch.SymInt) else functions[call.op](e) for e in x.ravel()]
        return _objects(rounded, x.shape)
    return -x if call.op == "Neg" else x


@symbolic("Relu")
def relu(call: Call, x: Any) -> Any:
    return binary(replace(call, op="Max"), x, np.int64(0))


@symbolic("Cast", "CastLike")
def cast(call: Call, x: Any, like: Any = None) -> Any:
    """A size that becomes a float keeps its value; one that is cut becomes an integer again."""
    for key in ("saturate", "round_mode"):
        call.get(key)
    to = call.get("to")
    whole = like is not None or onnx.helper.tensor_dtype_to_np_dtype(to).kind in "iu"
    if not whole:
        return _objects([e if isinstance(e, torch.SymInt) else float(e) for e in x.ravel()], x.shape)
    return _objects([e if isinstance(e, torch.SymInt) else torch.sym_int(e) for e in x.ravel()], x.shape)


@symbolic("Concat")
def concat(call: Call, *values: Any) -> Any:
    return np.concatenate([np.atleast_1d(v) for v in values], call.get("axis", 1))


@symbolic("Slice")
def slice_(call: Call, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    given = [call.get(key) if v is None else integers(call, v) for key, v in (("starts", starts), ("ends", ends), ("axes", axes))]
    first, last, chosen = given
    index = [slice(None)] * x.ndim
    strides = [1] * len(first) if steps is None else integers(call, steps)
    for start, end, axis, step in zip(first, last, chosen or range(len(first)), strides, strict=True):
        # what lies beyond the other end is everything up to it
        index[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(index)]


@symbolic("Gather")
def gather(call: Call, x: Any, index: Any) -> Any:
    return np.asarray(np.take(x, index.astype(np.int64), call.get("axis", 0)))


@symbolic("Squeeze")
def squeeze(call: Call, x: Any, axes: Any = None) -> Any:
    chosen = axes_of(call, axes)
    return np.squeeze(x, tuple(chosen) if chosen else None)


@symbolic("Unsqueeze")
def unsqueeze(call: Call, x: Any, axes: Any = None) -> Any:
    return np.expand_dims(x, tuple(axes_of(call, axes) or []))


@symbolic("Reshape")
def reshape(call: Call, x: Any, target: Any = None) -> Any:
    call.get("allowzero")
    return x.reshape([int(e) for e in (call.get("shape") if target is None else integers(call, target))])


@symbolic("Transpose")
def transpose(call: Call, x: Any) -> Any:
    return np.transpose(x, call.get("perm"))


@symbolic("Split")
def split(call: Call, x: Any, sizes: Any = None) -> Any:
    axis, given, count = call.get("axis", 0), call.get("split"), call.get("num_outputs") or call.declared
    parts = given if sizes is None else integers(call, sizes)
    if not parts:
        step = -(-x.shape[axis] // count)
        parts = [step] * count
    return tuple(np.split(x, np.cumsum(parts)[:-1], axis))


@symbolic("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def reduce(call: Call, x: Any, axes: Any = None) -> Any:
    call.get("noop_with_empty_axes")
    functions: dict[str, Any] = {
        "ReduceProd": np.multiply,
        "ReduceSum": np.add,
        "ReduceMax": BINARY["Max"],
        "ReduceMin": BINARY["Min"],
    }
    chosen = axes_of(call, axes)
    return np.asarray(functions[call.op].reduce(x, axis=tuple(chosen) if chosen else None, keepdims=bool(call.get("keepdims", 1))))


@symbolic("Where")
def where(call: Call, mask: Any, a: Any, b: Any) -> Any:
    return np.where(mask.astype(bool), a, b)


@symbolic("Tile")
def tile(call: Call, x: Any, repeats: Any) -> Any:
    return np.tile(x, integers(call, repeats))


def _objects(values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    """An array of objects: symbols are not to be looked at as numbers."""
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result.reshape(shape)
