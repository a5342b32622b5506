"""Padding: as an operator of its own, and around the windows of convolutions and pooling."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, integers, operator, tensor


def pads_of(call: Call, x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis, from `pads` or `auto_pad`."""
    mode, count = call.get("auto_pad", "NOTSET"), len(kernel)
    if mode in ("NOTSET", ""):
        pads = call.get("pads") or [0] * 2 * count
        return list(pads[:count]), list(pads[count:])
    if mode == "VALID":
        return [0] * count, [0] * count
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
    return F.pad(x, [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair], value=value)


@operator("Pad")
def pad_(call: Call, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    amounts = list(call.get("pads")) if pads is None else integers(call, pads)
    chosen = list(range(x.dim())) if axes is None else integers(call, axes)
    fill = float(call.get("value", 0.0) if value is None else tensor(value).item())
    sides: list[tuple[Any, Any]] = [(0, 0)] * x.dim()
    for i, axis in enumerate(chosen):
        sides[axis] = (amounts[i], amounts[len(chosen) + i])
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[call.get("mode", "constant")]
    # torch counts axes from the last; the leading ones without padding are left out
    while len(sides) > 1 and sides[0] == (0, 0):
        sides.pop(0)
    flat = [p for pair in reversed(sides) for p in pair]
    return F.pad(x, flat, mode=mode, value=fill) if mode == "constant" else F.pad(x, flat, mode=mode)
