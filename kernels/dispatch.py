"""Which backend carries the noise: BANSCAN_KERNELS=triton|cpu|reference decides, otherwise the device does."""

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from banscan.errors import UsageError
from banscan.kernels import cpu, reference
from banscan.kernels.noise import LayerNoise

NAMES = ("triton", "cpu", "reference")
# the oldest generation of GPUs that the kernels are compiled for in the tests
OLDEST = (8, 0)


class Perturb(Protocol):
    """The signature of `reference.perturb`."""

    def __call__(self, z: Tensor, noise: LayerNoise, *, axis: int = 1) -> Tensor: ...


class Ascend(Protocol):
    """The signature of `reference.ascend`."""

    def __call__(self, noise: Tensor, gradient: Tensor, momentum: Tensor, *, eps: Tensor, steps: int, ball: str) -> None: ...


@dataclass(frozen=True)
class Backend:
    """One way to compute the noise."""

    name: str
    perturb: Perturb
    ascend: Ascend


def backend(where: torch.device) -> str:
    """The name of the backend for a device: the explicit choice, which must be able to run, or the fastest one there is.

    Raises:
        UsageError: BANSCAN_KERNELS names no backend, or one that cannot run on this device.
    """
    asked = os.environ.get("BANSCAN_KERNELS")
    if asked is None:
        return "cpu" if where.type == "cpu" else "triton" if where.type == "cuda" and _why_no_triton(where) is None else "reference"
    if asked not in NAMES:
        raise UsageError(f"BANSCAN_KERNELS is {asked!r}; expected one of {', '.join(sorted(NAMES))}")
    why = why_not(asked, where)
    if why is not None:
        raise UsageError(f"BANSCAN_KERNELS is {asked!r}, which cannot run: {why}; unset it")
    return asked


def why_not(name: str, where: torch.device) -> str | None:
    """What keeps the backend of this name from running on a device, or None."""
    if name == "cpu" and where.type != "cpu":
        return f"device {where.type!r} is no CPU"
    return _why_no_triton(where) if name == "triton" else None


def chosen(where: torch.device) -> Backend:
    """The backend of this name; raises as `backend` does."""
    return _made(backend(where))


@cache
def _made(name: str) -> Backend:
    if name == "triton":
        # only here: Triton is not installed everywhere
        from banscan.kernels import ascent, epilogue

        return Backend(name, epilogue.perturb, ascent.ascend)
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
