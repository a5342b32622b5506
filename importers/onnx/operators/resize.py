"""Resizing: torch's own where it computes the same, sampling axis by axis for the rest of ONNX's modes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, integers, operator

# where a pixel of the result lies in the original: index, factor, size before, size after → coordinate
COORDINATES: dict[str, Callable[[np.ndarray, float, int, int], np.ndarray]] = {
    "asymmetric": lambda i, factor, before, after: i / factor,
    "half_pixel": lambda i, factor, before, after: (i + 0.5) / factor - 0.5,
    "pytorch_half_pixel": lambda i, factor, before, after: (i + 0.5) / factor - 0.5 if after > 1 else 0.0 * i,
    "align_corners": lambda i, factor, before, after: i * ((before - 1) / max(1, after - 1)),
}
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda c: np.ceil(c - 0.5),
    "round_prefer_ceil": lambda c: np.floor(c + 0.5),
}


@operator("Resize", "Upsample")
def resize(call: Call, x: Tensor, *rest: Any) -> Tensor:
    scales: Any = call.get("scales")
    sizes: list[int] | None = None
    factors: list[float] | None = None
    if len(rest) == 1:
        scales = rest[0]
    elif len(rest) > 1:
        scales, sizes = rest[1], None if len(rest) < 3 or rest[2] is None else integers(call, rest[2])[2:]
    if sizes is None:
        factors = [float(e) for e in np.asarray(scales.detach() if isinstance(scales, Tensor) else scales).ravel()]
        sizes = [math.floor(d * f) for d, f in zip(x.shape[2:], factors[2:], strict=True)]
    mode = call.get("mode", "nearest")
    where_ = call.get("coordinate_transformation_mode", "half_pixel" if call.version >= 11 else "asymmetric")
    rounding = call.get("nearest_mode", "round_prefer_floor" if call.version >= 11 else "floor")
    if mode == "nearest" and where_ == "asymmetric" and rounding == "floor":
        return F.interpolate(x, size=sizes, mode="nearest")
    kinds = {("linear", 4): "bilinear", ("linear", 3): "linear", ("cubic", 4): "bicubic"}
    if (mode, x.dim()) in kinds and where_ in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return F.interpolate(x, size=sizes, mode=kinds[mode, x.dim()], align_corners=where_ == "align_corners")
    if mode not in ("nearest", "linear") or where_ not in COORDINATES or rounding not in ROUNDINGS or call.get("antialias"):
        raise call.unsupported(f"mode {mode} with {where_}{f' and {rounding}' if mode == 'nearest' else ''}")
    for axis, size in enumerate(sizes, 2):
        factor = size / int(x.shape[axis]) if factors is None else factors[axis]
        x = _resample(
            x, axis, COORDINATES[where_](np.arange(size), factor, int(x.shape[axis]), size), None if mode == "linear" else rounding
        )
    return x


def _resample(x: Tensor, axis: int, coordinates: np.ndarray, rounding: str | None) -> Tensor:
    """Values of one axis at coordinates that are no whole numbers: the one that `rounding` leads to, or between two."""
    last = int(x.shape[axis]) - 1
    inside = coordinates.clip(0, last)
    if rounding is not None:
        return x.index_select(axis, torch.from_numpy(ROUNDINGS[rounding](coordinates).clip(0, last).astype(np.int64)))
    low = np.floor(inside).astype(np.int64)
    share = torch.from_numpy((inside - low).astype(np.float32)).reshape(-1, *(1,) * (x.dim() - 1 - axis))
    below, above = (x.index_select(axis, torch.from_numpy(np.minimum(i, last))) for i in (low, low + 1))
    return below + (above - below) * share
