"""Values picked and placed by indices."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators import batches
from banscan.importers.onnx.operators.registry import Call, check_sizes, integers, is_static, operator, tensor

REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("Gather")
def gather(call: Call, x: Tensor, index: Any) -> Tensor:
    axis = call.get("axis", 0) % x.dim()
    if is_static(index) and index.ndim == 0 and index.dtype != object:
        return x.select(axis, int(index))
    own = batches.apart(call, x) if axis == 0 and is_static(index) and index.dtype != object else None
    return _picked(x, axis, index) if own is None else _picked(own, 1, index).flatten(0, 1)


def _picked(x: Tensor, axis: int, index: Any) -> Tensor:
    """With these places instead of an axis."""
    places = _positive(tensor(index).long(), x.shape[axis])
    return x.index_select(axis, places.reshape(-1)).reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


@operator("GatherElements")
def gather_elements(call: Call, x: Tensor, index: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.dim()
    return x.gather(axis, _positive(index.long(), x.shape[axis]))


@operator("GatherND")
def gather_nd(call: Call, x: Tensor, index: Tensor) -> Tensor:
    shared = call.get("batch_dims", 0)
    index = index.long()
    count = index.shape[-1]
    if shared > 1:
        raise call.unsupported("batch_dims above 1")
    places = [_positive(index[..., i], x.shape[shared + i]) for i in range(count)]
    if shared:
        first = torch.arange(x.shape[0]).reshape(-1, *(1,) * (index.dim() - 2)).expand(index.shape[:-1])
        places = [first, *places]
    return x[tuple(places)]


@operator("ScatterElements", "Scatter")
def scatter_elements(call: Call, x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    axis, reduction = call.get("axis", 0) % x.dim(), call.get("reduction", "none")
    places = _positive(index.long(), x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, values)
    if reduction not in REDUCTIONS:
        raise call.unknown(f"reduction {reduction}")
    return x.scatter_reduce(axis, places, values, REDUCTIONS[reduction])


@operator("ScatterND")
def scatter_nd(call: Call, x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    reduction = call.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise call.unknown(f"reduction {reduction}")
    index = index.long()
    places = tuple(_positive(index[..., i], x.shape[i]) for i in range(index.shape[-1]))
    return x.index_put(places, values, accumulate=reduction == "add")


def _positive(index: Tensor, size: Any) -> Tensor:
    """Negative places count from the end."""
    return torch.where(index < 0, index + size, index)


@operator("OneHot")
def one_hot(call: Call, index: Tensor, depth: Any, values: Tensor) -> Tensor:
    axis, count = call.get("axis", -1), integers(call, depth)[0]
    check_sizes(call, [*index.shape, count])
    axis = axis % (index.dim() + 1)
    wanted = torch.arange(count).reshape(-1, *(1,) * (index.dim() - axis))
    index = index.long().unsqueeze(axis)
    return torch.where(_positive(index, count) == wanted, values[1], values[0])


@operator("NonZero")
def non_zero(call: Call, x: Any) -> Any:
    if not is_static(x) or x.dtype == object:
        raise call.unsupported("a number of places that is computed from the pixels")
    return np.stack(np.nonzero(np.atleast_1d(x))).astype(np.int64)


@operator("Compress")
def compress(call: Call, x: Tensor, mask: Any) -> Tensor:
    axis = call.get("axis")
    if not is_static(mask):
        raise call.unsupported("a choice that is computed from the pixels")
    places = torch.from_numpy(np.flatnonzero(mask))
    return x.reshape(-1).index_select(0, places) if axis is None else x.index_select(axis, places)


@operator("GridSample", "com.microsoft::GridSample")
def grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(call.get("mode", "bilinear"), call.get("mode", "bilinear"))
    padding, corners = call.get("padding_mode", "zeros"), bool(call.get("align_corners", 0))
    if mode == "bicubic" and (padding == "border" or x.dim() != 4):
        raise call.unsupported(f"mode cubic with padding_mode {padding}")
    if x.dim() not in (4, 5):
        raise call.unsupported(f"a map of {x.dim() - 2} axes")
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=corners)


@operator("AffineGrid")
def affine_grid(call: Call, theta: Tensor, sizes: Any) -> Tensor:
    return F.affine_grid(theta, integers(call, sizes), align_corners=bool(call.get("align_corners", 0)))
