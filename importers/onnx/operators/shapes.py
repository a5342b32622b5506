"""Shapes: asking for them, computing with them, and moving, cutting and repeating values."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, axes_of, check_table, integers, is_static, operator, tensor


@operator("Shape")
def shape(call: Call, x: Any) -> Any:
    sizes = list(x.shape)[slice(call.get("start", 0), call.get("end"))]
    symbolic = np.empty(len(sizes), dtype=object)
    symbolic[:] = sizes
    return symbolic if any(isinstance(e, torch.SymInt) for e in sizes) else symbolic.astype(np.int64)


@operator("Reshape")
def reshape(call: Call, x: Any, target: Any = None) -> Any:
    sizes = list(call.get("shape")) if target is None else integers(call, target)
    if is_static(x):
        return x.reshape([int(e) for e in sizes])
    if not call.get("allowzero", 0):
        sizes = [x.shape[i] if isinstance(e, int) and e == 0 else e for i, e in enumerate(sizes)]
    if isinstance(x.shape[0], torch.SymInt) and isinstance(sizes[0], int) and sizes[0] == call.batch:
        sizes[0] = x.shape[0]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(call: Call, x: Tensor) -> Any:
    axis = call.get("axis", 1)
    axis = axis % x.dim() if axis < 0 else axis
    return x.flatten(1) if axis == 1 else x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def transpose(call: Call, x: Any) -> Any:
    order = call.get("perm")
    if is_static(x):
        return np.transpose(x, order)
    return x.permute(order or list(range(x.dim()))[::-1])


@operator("Squeeze")
def squeeze(call: Call, x: Any, axes: Any = None) -> Any:
    chosen = axes_of(call, axes)
    if is_static(x):
        return np.squeeze(x, tuple(chosen) if chosen else None)
    return x.squeeze(chosen if chosen is not None else [i for i, size in enumerate(x.shape) if isinstance(size, int) and size == 1])


@operator("Unsqueeze")
def unsqueeze(call: Call, x: Any, axes: Any = None) -> Any:
    chosen = axes_of(call, axes) or []
    if is_static(x):
        return np.expand_dims(x, tuple(chosen))
    rank = x.dim() + len(chosen)
    for axis in sorted(a % rank for a in chosen):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concat(call: Call, *values: Any) -> Any:
    if is_static(*values):
        return np.concatenate([np.atleast_1d(v) for v in values], call.get("axis", 1))
    return torch.cat([tensor(v) for v in values], call.get("axis", 1))


@operator("Split")
def split(call: Call, x: Any, sizes: Any = None) -> Any:
    axis = call.get("axis", 0)
    parts = list(call.get("split") or []) if sizes is None else integers(call, sizes)
    if not parts:
        step = -(-x.shape[axis] // call.outputs)
        parts = [step] * (call.outputs - 1) + [x.shape[axis] - step * (call.outputs - 1)]
    if is_static(x):
        return tuple(np.split(x, np.cumsum(parts)[:-1], axis))
    return tuple(torch.split(x, parts, axis))


@operator("Slice")
def slice_(call: Call, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    if starts is None:
        first, last, chosen = call.get("starts"), call.get("ends"), call.get("axes")
    else:
        first, last = integers(call, starts), integers(call, ends)
        chosen = None if axes is None else integers(call, axes)
    strides = [1] * len(first) if steps is None else integers(call, steps)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(first, last, chosen or range(len(first)), strides, strict=True):
        if step < 0:
            if is_static(x):
                index[axis] = slice(start, None if end < -(2**31) else end, step)
                continue
            if (start, step) != (-1, -1) or end > -(2**31):
                raise call.unsupported("a negative step that does not reverse a whole axis")
            x = x.flip(axis)
            continue
        index[axis] = slice(start, None if isinstance(end, int) and end >= 2**31 - 1 else end, step)
    return x[tuple(index)]


@operator("Gather")
def gather(call: Call, x: Any, index: Any) -> Any:
    axis = call.get("axis", 0)
    if is_static(x, index):
        return np.asarray(np.take(x, index.astype(np.int64), axis))
    x = tensor(x)
    if is_static(index) and index.ndim == 0:
        return x.select(axis, int(index))
    picked = tensor(index).long()
    picked = torch.where(picked < 0, picked + x.shape[axis], picked)
    axis %= x.dim()
    return x.index_select(axis, picked.reshape(-1)).reshape([*x.shape[:axis], *picked.shape, *x.shape[axis + 1 :]])


@operator("Expand")
def expand(call: Call, x: Any, target: Any) -> Any:
    x = tensor(x)
    sizes = integers(call, target)
    own = [1] * (len(sizes) - x.dim()) + list(x.shape)
    sizes = [1] * (len(own) - len(sizes)) + sizes
    return x.expand([a if isinstance(b, int) and b == 1 else b for a, b in zip(own, sizes, strict=True)])


@operator("Tile")
def tile(call: Call, x: Any, repeats: Any) -> Any:
    times = integers(call, repeats)
    if is_static(x):
        check_table(call, x.size * math.prod(float(t) for t in times))
        return np.tile(x, times)
    return x.repeat(times)


@operator("ConstantOfShape")
def constant_of_shape(call: Call, target: Any) -> Any:
    given = call.get("value")
    value = np.float32(0) if given is None else given.ravel()[0]
    sizes = integers(call, target)
    if value.dtype.kind in "iub" and all(isinstance(e, int) for e in sizes):
        check_table(call, math.prod(float(e) for e in sizes))
        return np.full(sizes, value)
    return torch.full(sizes, value.item(), dtype=torch.from_numpy(np.array(value)).dtype)


@operator("Range")
def range_(call: Call, start: Any, limit: Any, step: Any) -> Any:
    values = [v.item() if is_static(v) else v for v in (start, limit, step)]
    if not any(isinstance(v, torch.SymInt | Tensor) for v in values):
        check_table(call, (values[1] - values[0]) / values[2] if values[2] else math.inf)
        return np.arange(*values)
    return torch.arange(*values)


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Tensor) -> Tensor:
    block = call.get("blocksize")
    if call.get("mode", "DCR") == "CRD":
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
