"""The arithmetic of quantised tensors: what their integers, or numbers of 8 bits, stand for."""

import math
from typing import Any

import ml_dtypes
import numpy as np


def limits_of(kind: np.dtype) -> tuple[float, float]:
    """The smallest and the largest number of a type of integers, or of floats of 8 bits."""
    if kind.kind in "iu" or "int" in kind.name:
        whole: Any = ml_dtypes.iinfo
        return float(whole(kind).min), float(whole(kind).max)
    found: Any = ml_dtypes.finfo
    return float(found(kind).min), float(found(kind).max)


def spread(parameter: np.ndarray, shape: tuple[int, ...], axis: int, block: int) -> np.ndarray:
    """Scales or zero points in a form that broadcasts against a tensor: one, one for each place of an axis, or one for each block there.

    Raises:
        ValueError: they do not fit.
    """
    numbers = parameter.astype(np.float64)
    if numbers.size == 1:
        return numbers.reshape(())
    axis = axis % len(shape) if -len(shape) <= axis < len(shape) else 0
    if block:
        repeated: np.ndarray = np.repeat(numbers, block, axis)
        return np.take(repeated, np.arange(shape[axis]), axis)
    return numbers.reshape([numbers.size if i == axis else 1 for i in range(len(shape))])


def dequantised(value: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int, block: int = 0) -> np.ndarray:
    """(value - zero) * scale, the last two per tensor, along an axis, or in blocks along it."""
    offset = 0.0 if zero is None else spread(zero, value.shape, axis, block)
    result: np.ndarray = ((value.astype(np.float64) - offset) * spread(scale, value.shape, axis, block)).astype(np.float32)
    return result


def quantised(value: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, kind: np.dtype, axis: int, block: int = 0) -> np.ndarray:
    """value / scale + zero, rounded to the type, the last two as for `dequantised`."""
    ratio = value.astype(np.float64) / spread(scale, value.shape, axis, block)
    offset = 0.0 if zero is None else spread(zero, value.shape, axis, block)
    rounded = np.round(ratio) + offset if kind.kind in "iu" or "int" in kind.name else ratio + offset
    result: np.ndarray = rounded.clip(*limits_of(kind)).astype(kind)
    return result


def unpacked(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Numbers of a few bits, the lowest first in each byte, from rows of bytes [..., bytes]; `count` of each row.

    Raises:
        ValueError: there are fewer.
    """
    each = 8 // bits
    parts = [(packed.astype(np.uint8) >> (bits * i)) & ((1 << bits) - 1) for i in range(each)]
    rows: np.ndarray = np.stack(parts, -1).reshape(*packed.shape[:-1], packed.shape[-1] * each)
    if rows.shape[-1] < count:
        raise ValueError("fewer values than its shape")
    return rows[..., :count]


def blocks(packed: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, bits: int, size: int, inputs: int, outputs: int) -> np.ndarray:
    """The matrix [outputs, inputs] of MatMulNBits: each row in blocks of `size` with a scale and a zero point of their own.

    Raises:
        ValueError: the parts do not fit.
    """
    count = math.ceil(inputs / size)
    values = unpacked(packed.reshape(outputs, count, -1), bits, size).astype(np.float64)
    middle = float(1 << (bits - 1))
    if zero is None:
        offset: np.ndarray | float = middle
    elif zero.dtype.kind == "f":
        offset = zero.astype(np.float64).reshape(outputs, count, 1)
    else:
        offset = unpacked(zero.reshape(outputs, -1), bits, count).astype(np.float64)[:, :, None]
    result = (values - offset) * scale.astype(np.float64).reshape(outputs, count, 1)
    matrix: np.ndarray = result.reshape(outputs, count * size)[:, :inputs].astype(np.float32)
    return matrix
