"""Shapes: asking for them, and moving, cutting and repeating values."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators import batches
from banscan.importers.onnx.operators.registry import Call, axes_of, check_sizes, check_table, integers, is_static, operator, tensor

# beyond the end of every axis
END = 2**31 - 1


@operator("Shape")
def shape(call: Call, x: Any) -> Any:
    first, last = call.get("start", 0), call.get("end")
    sizes = list(x.shape)[slice(first, last)]
    symbolic = np.empty(len(sizes), dtype=object)
    symbolic[:] = sizes
    return symbolic if any(isinstance(e, torch.SymInt) for e in sizes) else symbolic.astype(np.int64)


@operator("Size")
def size(call: Call, x: Any) -> Any:
    count = math.prod(x.shape)
    return np.array(count, dtype=object if isinstance(count, torch.SymInt) else np.int64)


@operator("Reshape")
def reshape(call: Call, x: Tensor, target: Any = None) -> Tensor:
    sizes = list(call.get("shape")) if target is None else integers(call, target)
    if not call.get("allowzero", 0):
        sizes = [x.shape[i] if isinstance(e, int) and e == 0 else e for i, e in enumerate(sizes)]
    return x.reshape(batches.reshaped(list(x.shape), sizes, call.batch))


@operator("Flatten")
def flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.flatten(1) if axis == 1 and x.dim() > 1 else x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Transpose")
def transpose(call: Call, x: Tensor) -> Tensor:
    return x.permute(call.get("perm") or list(range(x.dim()))[::-1])


@operator("Squeeze")
def squeeze(call: Call, x: Tensor, axes: Any = None) -> Tensor:
    chosen = axes_of(call, axes)
    if not chosen:
        return x.squeeze([i for i, e in enumerate(x.shape) if isinstance(e, int) and e == 1])
    if any(not isinstance(x.shape[a], int) or x.shape[a] != 1 for a in chosen):
        raise call.unsupported("taking away an axis that is longer than 1")
    return x.squeeze(chosen)


@operator("Unsqueeze")
def unsqueeze(call: Call, x: Tensor, axes: Any = None) -> Tensor:
    chosen = axes_of(call, axes) or []
    rank = x.dim() + len(chosen)
    for axis in sorted(a % rank for a in chosen):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concat(call: Call, *values: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    return torch.cat(batches.spread(list(values), axis, call.batch), axis)


@operator("Split")
def split(call: Call, x: Tensor, sizes: Any = None) -> tuple[Tensor, ...]:
    axis, given, count = call.get("axis", 0), call.get("split"), call.get("num_outputs") or call.declared
    parts = list(given or []) if sizes is None else integers(call, sizes)
    if not parts:
        step = -(-x.shape[axis] // count)
        parts = [step] * (count - 1) + [x.shape[axis] - step * (count - 1)]
    return tuple(torch.split(x, parts, axis))


@operator("Slice")
def slice_(call: Call, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Tensor:
    given = [call.get(key) if v is None else integers(call, v) for key, v in (("starts", starts), ("ends", ends), ("axes", axes))]
    first, last, chosen = given
    strides = [1] * len(first) if steps is None else integers(call, steps)
    index = [slice(None)] * x.dim()
    for start, end, axis, step in zip(first, last, chosen or range(len(first)), strides, strict=True):
        if isinstance(step, int) and step < 0:
            x = _backwards(call, x, start, end, axis, step)
        else:
            index[axis] = slice(start, None if isinstance(end, int) and end >= END else end, step)
    return x[tuple(index)] if any(i != slice(None) for i in index) else x


def _backwards(call: Call, x: Tensor, start: Any, end: Any, axis: int, step: int) -> Tensor:
    length = x.shape[axis]
    if not all(isinstance(e, int) for e in (start, end, length)):
        raise call.unsupported("a negative step along a free axis")
    start = min(start + length if start < 0 else start, length - 1)
    end = max(end + length if end < 0 else end, -1)
    places = np.arange(start, end, step)
    if len(places) == length:
        return x.flip(axis)
    return x.index_select(axis, torch.from_numpy(places))


@operator("Expand")
def expand(call: Call, x: Tensor, target: Any) -> Tensor:
    sizes = batches.freed(integers(call, target), call.batch, call.images)
    own = [1] * (len(sizes) - x.dim()) + list(x.shape)
    sizes = [1] * (len(own) - len(sizes)) + sizes
    sizes = [a if isinstance(b, int) and b == 1 else b for a, b in zip(own, sizes, strict=True)]
    check_sizes(call, sizes)
    return x.expand(sizes)


@operator("Tile")
def tile(call: Call, x: Tensor, repeats: Any, axis: Any = None) -> Tensor:
    times = integers(call, repeats)
    if axis is not None:  # opset 1: along one axis
        along = integers(call, axis)[0] % x.dim()
        times = [times[0] if i == along else 1 for i in range(x.dim())]
    times = batches.freed(times, call.batch if not isinstance(x.shape[0], torch.SymInt) else None, call.images)
    check_sizes(call, [a * b for a, b in zip(x.shape, times, strict=True)])
    return x.repeat(times)


@operator("ConstantOfShape")
def constant_of_shape(call: Call, target: Any) -> Any:
    given = call.get("value")
    value = np.zeros((), np.float32) if given is None else given.ravel()[0]
    sizes = batches.freed(integers(call, target), call.batch, call.images)
    check_table(call, math.prod(1.0 if isinstance(e, torch.SymInt) else max(0, e) for e in sizes))
    value = np.float32(value) if value.dtype.kind == "f" else value
    if all(isinstance(e, int) for e in sizes):
        return np.full(sizes, value)
    return torch.full(sizes, value.item(), dtype=tensor(np.array(value)).dtype)


@operator("Range")
def range_(call: Call, start: Any, limit: Any, step: Any) -> Any:
    values = [v.item() if is_static(v) else v for v in (start, limit, step)]
    if any(isinstance(v, Tensor) for v in values):
        raise call.unsupported("a number of values that is computed from the pixels")
    if any(isinstance(v, torch.SymInt) for v in values):
        return torch.arange(*values)
    check_table(call, (values[1] - values[0]) / values[2] if values[2] else math.inf)
    return np.arange(*values).astype(np.asarray(start).dtype)


@operator("EyeLike")
def eye_like(call: Call, x: Any) -> Any:
    kind, shift = call.get("dtype"), call.get("k", 0)
    rows, columns = x.shape
    if not (isinstance(rows, int) and isinstance(columns, int)):
        raise call.unsupported("a free number of rows")
    check_table(call, rows * columns)
    whole = (kind is not None and kind not in (1, 10, 11, 16)) or (kind is None and is_static(x) and x.dtype.kind in "iu")
    return np.eye(rows, columns, shift, dtype=np.int64 if whole else np.float32)


@operator("Trilu")
def triangle(call: Call, x: Tensor, k: Any = None) -> Tensor:
    upper, shift = call.get("upper", 1), 0 if k is None else integers(call, k)[0]
    return torch.triu(x, shift) if upper else torch.tril(x, shift)


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Tensor) -> Tensor:
    block, mode = call.get("blocksize"), call.get("mode", "DCR")
    if mode == "CRD":
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // block**2, h * block, w * block)


@operator("SpaceToDepth")
def space_to_depth(call: Call, x: Tensor) -> Tensor:
    block = call.get("blocksize")
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * block**2, h // block, w // block)


@operator("CenterCropPad")
def center_crop_pad(call: Call, x: Tensor, target: Any) -> Tensor:
    axes, sizes = call.get("axes"), integers(call, target)
    check_sizes(call, sizes)
    for axis, wanted in zip(range(x.dim()) if axes is None else axes, sizes, strict=True):
        have = x.shape[axis]
        if have > wanted:
            x = x.narrow(axis, (have - wanted) // 2, wanted)
        elif have < wanted:
            low = (wanted - have) // 2
            behind = x.dim() - 1 - axis % x.dim()
            x = F.pad(x, [0, 0] * behind + [low, wanted - have - low])
    return x


@operator("ReverseSequence")
def reverse_sequence(call: Call, x: Tensor, lengths: Any) -> Tensor:
    batch, time = call.get("batch_axis", 1), call.get("time_axis", 0)
    if not is_static(lengths) or any(e != x.shape[time] for e in integers(call, lengths)):
        raise call.unsupported(f"reversing parts of axis {time} for each entry of axis {batch}")
    return x.flip(time)
