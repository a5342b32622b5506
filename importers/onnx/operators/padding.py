"""Padding: as an operator of its own, and around the windows of convolutions and pooling."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, check_sizes, integers, numbers, operator

MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def pads_of(call: Call, x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis, from `pads` or `auto_pad`."""
    mode, count = call.get("auto_pad", "NOTSET"), len(kernel)
    pads = call.get("pads") or [0] * 2 * count
    if mode in ("NOTSET", ""):
        if len(pads) != 2 * count:
            raise call.unsupported(f"padding by {len(pads)} numbers for {count} axes")
        return list(pads[:count]), list(pads[count:])
    if mode == "VALID":
        return [0] * count, [0] * count
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise call.unknown(f"auto_pad {mode}")
    before, after = [], []
    for i in range(count):
        size = x.shape[2 + i]
        total = max(0, (-(-size // stride[i]) - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - size)
        low = total // 2 if mode == "SAME_UPPER" else total - total // 2
        before.append(low)
        after.append(total - low)
    return before, after


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads the last axes, as many as there are amounts."""
    if not any(before) and not any(after):
        return x
    return F.pad(x, [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair], value=value)


@operator("Pad", "com.microsoft::Pad")
def pad_(call: Call, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    given = call.get("paddings", call.get("pads"))  # opset 1 has the longer name
    amounts = list(given) if pads is None else integers(call, pads)
    fill = call.get("value", 0.0) if value is None else numbers(call, value)[0]
    chosen = list(range(x.dim())) if axes is None else [a % x.dim() for a in integers(call, axes)]
    if len(amounts) != 2 * len(chosen):
        raise call.unsupported(f"padding by {len(amounts)} numbers for {len(chosen)} axes")
    if not all(isinstance(amount, int) for amount in amounts):
        raise call.unsupported("padding by a free amount")
    sides: list[tuple[int, int]] = [(0, 0)] * x.dim()
    for i, axis in enumerate(chosen):
        sides[axis] = (amounts[i], amounts[len(chosen) + i])
    mode = call.get("mode", "constant")
    if mode not in MODES:
        raise call.unknown(f"mode {mode}")
    check_sizes(call, [size + low + high for size, (low, high) in zip(x.shape, sides, strict=True)])
    for axis, (low, high) in enumerate(sides):  # a negative amount cuts off
        if low < 0 or high < 0:
            x = x.narrow(axis, max(0, -low), x.shape[axis] - max(0, -low) - max(0, -high))
    sides = [(max(0, low), max(0, high)) for low, high in sides]
    if mode == "constant" or x.dim() < 2:
        return _constant(call, x, sides, mode, fill)
    return _around(x, sides, mode)


def _constant(call: Call, x: Tensor, sides: list[tuple[int, int]], mode: str, fill: float) -> Tensor:
    if mode != "constant":
        return _around(x, sides, mode)
    # torch counts axes from the last; the leading ones without padding are left out
    while len(sides) > 1 and sides[0] == (0, 0):
        sides = sides[1:]
    if not any(any(side) for side in sides):
        return x
    flat = [p for pair in reversed(sides) for p in pair]
    return F.pad(x, flat, value=fill if x.is_floating_point() else int(fill))


def _around(x: Tensor, sides: list[tuple[int, int]], mode: str) -> Tensor:
    """Padding with the tensor's own values, axis by axis: torch's takes the last axes only."""
    used = [axis for axis, side in enumerate(sides) if any(side)]
    if x.dim() == 4 and used and min(used) >= 2 and all(max(sides[a]) < x.shape[a] for a in used) and x.is_floating_point():
        return F.pad(x, [*sides[3], *sides[2]], mode=MODES[mode])
    for axis in used:
        low, high = sides[axis]
        size = x.shape[axis]
        places = torch.arange(-low, size + high)
        if mode == "edge":
            places = places.clamp(0, size - 1)
        elif mode == "wrap":
            places = places.remainder(size)
        else:
            period = max(1, 2 * (size - 1))
            places = places.remainder(period)
            places = torch.minimum(places, period - places)
        x = x.index_select(axis, places)
    return x
