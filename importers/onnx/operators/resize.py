"""Resizing: torch's own where it computes the same, otherwise axis by axis as a weighted sum of values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, check_sizes, integers, numbers, operator

ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda c: np.ceil(c - 0.5),
    "round_prefer_ceil": lambda c: np.floor(c + 0.5),
}
# before opset 11: up where the image gets smaller, down where it gets larger
SIMPLE = "simple"
PLAIN = {("linear", 4): "bilinear", ("linear", 3): "linear"}


@dataclass(frozen=True)
class _Form:
    """The attributes of a node."""

    mode: str
    where: str
    rounding: str
    cubic: float
    outside: bool
    fill: float
    antialias: bool
    policy: str


def _form(call: Call) -> _Form:
    old = call.version < 11
    form = _Form(
        mode=call.get("mode", "nearest"),
        where=call.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel"),
        rounding=call.get("nearest_mode", SIMPLE if old else "round_prefer_floor"),
        cubic=call.get("cubic_coeff_a", -0.75),
        outside=bool(call.get("exclude_outside", 0)),
        fill=call.get("extrapolation_value", 0.0),
        antialias=bool(call.get("antialias", 0)),
        policy=call.get("keep_aspect_ratio_policy", "stretch"),
    )
    mode = "linear" if form.mode == "bilinear" else form.mode  # opset 1
    if mode not in ("nearest", "linear", "cubic") or form.rounding not in (*ROUNDINGS, SIMPLE):
        raise call.unknown(f"mode {form.mode} with {form.rounding}")
    if form.antialias and mode == "nearest":
        raise call.unknown("antialias with mode nearest")
    return form if mode == form.mode else _Form(**{**form.__dict__, "mode": mode})


@operator("Upsample")
def upsample(call: Call, x: Tensor, scales: Any = None) -> Tensor:
    named = [1.0, 1.0, call.get("height_scale", 1.0), call.get("width_scale", 1.0)]  # opset 1
    attribute = call.get("scales", named)
    return _resized(call, x, None, attribute if scales is None else numbers(call, scales), None)


@operator("Resize")
def resize(call: Call, x: Tensor, *rest: Any) -> Tensor:
    roi, scales, sizes = (None, rest[0], None) if call.version < 11 else (*rest, None, None, None)[:3]
    axes = call.get("axes")
    axes = list(range(x.dim())) if axes is None else [a % x.dim() for a in axes]
    given = None if sizes is None or np.size(sizes) == 0 else integers(call, sizes)
    factors = None if given is not None or scales is None else numbers(call, scales)
    region = numbers(call, roi) if roi is not None and np.size(roi) and _form(call).where == "tf_crop_and_resize" else None
    for values in (given, factors):
        if values is not None and len(values) != len(axes):
            raise call.unsupported(f"{len(values)} sizes or scales for {len(axes)} axes")
    if given is None and factors is None:
        raise call.unsupported("neither sizes nor scales")

    def everywhere(values: list[Any] | None, default: Callable[[int], Any]) -> list[Any] | None:
        return None if values is None else [values[axes.index(a)] if a in axes else default(a) for a in range(x.dim())]

    if given is not None and _form(call).policy != "stretch":
        given, factors = _kept_ratio(_form(call).policy, [x.shape[a] for a in axes], given)
    half = 0 if region is None else len(region) // 2
    roi_ = None
    if region is not None:
        starts, ends = everywhere(region[:half], lambda a: 0.0), everywhere(region[half:], lambda a: 1.0)
        roi_ = list(zip(starts or [], ends or [], strict=True))
    return _resized(call, x, everywhere(given, lambda a: x.shape[a]), everywhere(factors, lambda a: 1.0), roi_)


def _kept_ratio(policy: str, before: list[Any], given: list[Any]) -> tuple[list[int], list[float]]:
    """Sizes within those given, or around them, and the one factor that leads there."""
    ratios = [size / old for size, old in zip(given, before, strict=True)]
    factor = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(factor * old + 0.5) for old in before], [factor] * len(before)


def _resized(call: Call, x: Tensor, sizes: list[Any] | None, factors: list[float] | None, roi: list[tuple[float, float]] | None) -> Tensor:
    form, before = _form(call), list(x.shape)
    if sizes is None and factors is not None:
        # in float32, as runtimes compute it
        spans = [1.0 if roi is None else end - start for start, end in roi or [(0.0, 1.0)] * len(before)]
        sizes = [
            d if f == 1 and s == 1 else math.floor(float(np.float32(d) * np.float32(f) * np.float32(s)))
            for d, f, s in zip(before, factors, spans, strict=True)
        ]
    assert sizes is not None
    ratios = factors or [size / old if isinstance(old, int) else 1.0 for size, old in zip(sizes, before, strict=True)]
    moved = [a for a in range(x.dim()) if (isinstance(before[a], int) and (sizes[a] != before[a] or ratios[a] != 1)) or _cropped(roi, a)]
    if any(not isinstance(before[a], int) or sizes[a] < 1 for a in moved):
        raise call.unsupported("another number of images, or a size of 0,")
    check_sizes(call, sizes)
    exact = all(sizes[a] == before[a] * ratios[a] for a in moved)
    if moved and min(moved) >= 2 and exact and not form.antialias and roi is None:
        plain = [sizes[a] for a in range(2, x.dim())]
        if form.mode == "nearest" and form.where == "asymmetric" and all(_rounding(form, r) == "floor" for r in ratios):
            return F.interpolate(x, size=plain, mode="nearest")
        same = form.where == "half_pixel" or (form.where in ("pytorch_half_pixel", "align_corners") and min(plain) > 1)
        if (form.mode, x.dim()) in PLAIN and same:
            return F.interpolate(x, size=plain, mode=PLAIN[form.mode, x.dim()], align_corners=form.where == "align_corners")
    outside: list[tuple[int, np.ndarray]] = []
    for axis in moved:
        region = (0.0, 1.0) if roi is None else roi[axis]
        at = _coordinates(call, form.where, ratios[axis], before[axis], sizes[axis], region)
        x = _weighted(x, axis, *_taps(form, at, ratios[axis], before[axis]))
        if form.where == "tf_crop_and_resize":
            outside.append((axis, (at < 0) | (at > before[axis] - 1)))
    for axis, mask in outside:
        there = torch.from_numpy(mask).reshape(-1, *(1,) * (x.dim() - 1 - axis))
        x = torch.where(there, torch.full_like(x, form.fill), x)
    return x


def _cropped(roi: list[tuple[float, float]] | None, axis: int) -> bool:
    return roi is not None and roi[axis] != (0.0, 1.0)


def _coordinates(call: Call, where: str, factor: float, before: int, after: int, roi: tuple[float, float]) -> np.ndarray:
    """Where each pixel of the result lies in the original; in float32, as runtimes compute it, so that halves are rounded alike."""
    i, f = np.arange(after, dtype=np.float32), np.float32(factor)
    half, last = np.float32(0.5), np.float32(before - 1)
    if where == "asymmetric":
        return i / f
    if where == "half_pixel" or (where == "pytorch_half_pixel" and after > 1):
        return (i + half) / f - half
    if where == "pytorch_half_pixel":
        return 0 * i
    if where == "tf_half_pixel_for_nn":
        return (i + half) / f
    if where == "align_corners":
        return i * last / np.float32(max(1, after - 1))
    if where == "half_pixel_symmetric":
        shift = np.float32(before / 2) * (1 - np.float32(after) / (f * np.float32(before)))
        return shift + (i + half) / f - half
    if where == "tf_crop_and_resize":
        start, end = np.float32(roi[0]), np.float32(roi[1])
        if after == 1:
            return np.array([half * (start + end) * last])
        return start * last + i * (end - start) * last / np.float32(after - 1)
    raise call.unknown(f"coordinate_transformation_mode {where}")


def _rounding(form: _Form, factor: float) -> str:
    return form.rounding if form.rounding != SIMPLE else "ceil" if factor < 1 else "floor"


def _taps(form: _Form, at: np.ndarray, factor: float, before: int) -> tuple[np.ndarray, np.ndarray]:
    """Places [taps, after] and their weights, which add up to 1, for the values at these coordinates."""
    if form.mode == "nearest":
        return ROUNDINGS[_rounding(form, factor)](at).clip(0, before - 1)[None].astype(np.int64), np.ones((1, len(at)))
    wide = max(1.0, 1 / factor) if form.antialias else 1.0
    reach = (1.0 if form.mode == "linear" else 2.0) * wide
    first = np.floor(at - reach).astype(np.int64) + 1
    places = first + np.arange(math.ceil(2 * reach) + 1)[:, None]
    distance = np.abs(places - at) / wide
    weights = np.clip(1 - distance, 0, None) if form.mode == "linear" else _cubic(distance, form.cubic)
    if form.outside:
        weights = weights * ((places >= 0) & (places < before))
    used = np.abs(weights).max(1) > 0
    places, weights = places[used], weights[used]
    return places.clip(0, before - 1), weights / weights.sum(0)


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _weighted(x: Tensor, axis: int, places: np.ndarray, weights: np.ndarray) -> Tensor:
    """The sum over taps of the values at `places` times `weights`, along an axis."""
    total: Tensor | None = None
    for at, share in zip(places, weights, strict=True):
        part = x.index_select(axis, torch.from_numpy(np.ascontiguousarray(at)))
        if not np.all(share == 1):
            part = part * torch.from_numpy(share.astype(np.float32)).reshape(-1, *(1,) * (x.dim() - 1 - axis))
        total = part if total is None else total + part
    assert total is not None
    return total
