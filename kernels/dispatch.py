"""Which backend carries the noise: BANSCAN_KERNELS=triton|cpu|reference decides, otherwise the device does.

BANSCAN_CONV=apart|fused|auto says whether its convolutions compute what is behind them as well; by default they do not.
"""

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from banscan.errors import UsageError
from banscan.kernels import cpu, reference
from banscan.kernels.noise import LayerNoise, Twice
from banscan.kernels.switches import switch

NAMES = ("triton", "cpu", "reference")
# two steps, one, or whichever is faster on this GPU
CONVOLUTIONS = ("apart", "fused", "auto")
# the oldest generation of GPUs that the kernels are compiled for in the tests
OLDEST = (8, 0)


class Perturb(Protocol):
    """The signature of `reference.perturb`."""

    def __call__(self, z: Tensor, noise: LayerNoise, *, axis: int = 1) -> Twice: ...


class Ascend(Protocol):
    """The signature of `reference.ascend`."""

    def __call__(self, noise: Tensor, gradient: Tensor, momentum: Tensor, *, eps: Tensor, steps: int, ball: str) -> None: ...


class Convolve(Protocol):
    """`noisy.noisy_conv` in one step, or None for a convolution that is left to two."""

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        noise: LayerNoise,
        *,
        stride: int | list[int],
        padding: int | str | list[int],
        dilation: int | list[int],
        groups: int,
    ) -> Twice | None: ...


@dataclass(frozen=True)
class Backend:
    """One way to compute the noise; `convolve` is None where convolutions are apart from it."""

    name: str
    perturb: Perturb
    ascend: Ascend
    convolve: Convolve | None = None


def backend(where: torch.device) -> str:
    """The name of the backend for a device: the explicit choice, which must be able to run, or the fastest one there is.

    Raises:
        UsageError: BANSCAN_KERNELS names no backend, or one that cannot run on this device; or BANSCAN_CONV a way that it does not know.
    """
    name = switch("BANSCAN_KERNELS", NAMES)
    if name is not None:
        why = why_not(name, where)
        if why is not None:
            raise UsageError(f"BANSCAN_KERNELS is {name!r}, which cannot run: {why}; unset it")
    elif where.type == "cuda" and _why_no_triton(where) is None:
        name = "triton"
    else:
        name = "cpu" if where.type == "cpu" else "reference"
    _convolution(name)
    return name


def _convolution(name: str) -> str:
    """How a backend computes convolutions, one of CONVOLUTIONS."""
    how = switch("BANSCAN_CONV", CONVOLUTIONS) or CONVOLUTIONS[0]
    if how == "fused" and name != "triton":
        raise UsageError(f"BANSCAN_CONV is {how!r}, which cannot run: the kernels here are {name!r}; unset it")
    return how if name == "triton" else CONVOLUTIONS[0]


def described(where: torch.device) -> str:
    """The backend in words, for a report; raises as `backend` does."""
    name = backend(where)
    how = _convolution(name)
    return name if how == CONVOLUTIONS[0] else f"{name}, convolutions {how}"


def why_not(name: str, where: torch.device) -> str | None:
    """What keeps the backend of this name from running on a device, or None."""
    if name == "cpu" and where.type != "cpu":
        return f"device {where.type!r} is no CPU"
    return _why_no_triton(where) if name == "triton" else None


def chosen(where: torch.device) -> Backend:
    """The backend of this name; raises as `backend` does."""
    name = backend(where)
    return _made(name, _convolution(name))


@cache
def _made(name: str, convolutions: str) -> Backend:
    if name == "triton":
        # only here: Triton is not installed everywhere
        from banscan.kernels import ascent, convolution, epilogue

        ways = {"apart": None, "fused": convolution.fused, "auto": convolution.faster}
        return Backend(name, epilogue.perturb, ascent.ascend, ways[convolutions])
    return Backend(name, cpu.perturb if name == "cpu" else reference.perturb, reference.ascend)


def _why_no_triton(where: torch.device) -> str | None:
    """What keeps the Triton kernels from running on a device, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install 'banscan[triton]')"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if where.type != "cuda":
        return f"there is no GPU on device {where.type!r}"
    if torch.cuda.get_device_capability(where) < OLDEST:
        return "the GPU is older than compute capability 8.0"
    return None
