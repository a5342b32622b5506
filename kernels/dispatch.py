"""Which backend carries the noise: BANSCAN_KERNELS=cpu|reference decides, otherwise the device does."""

import os
from typing import Protocol

from torch import Tensor, device

from banscan.errors import UsageError
from banscan.kernels import cpu, reference


class Perturb(Protocol):
    """The signature of `reference.perturb`."""

    def __call__(
        self,
        z: Tensor,
        bias: Tensor | None,
        delta: Tensor,
        xi: Tensor,
        stats: Tensor | None = None,
        act: str | None = None,
        *,
        axis: int = 1,
        shared: bool = False,
    ) -> Tensor: ...


BACKENDS: dict[str, Perturb] = {"cpu": cpu.perturb, "reference": reference.perturb}


def backend(where: device) -> str:
    """The name of the backend for a device: the explicit choice, which must be able to run, or the fastest one there is.

    Raises:
        UsageError: BANSCAN_KERNELS names no backend, or one that cannot run on this device.
    """
    chosen = os.environ.get("BANSCAN_KERNELS")
    if chosen is None:
        return "cpu" if where.type == "cpu" else "reference"
    if chosen not in BACKENDS:
        raise UsageError(f"BANSCAN_KERNELS is {chosen!r}; expected one of {', '.join(sorted(BACKENDS))}")
    if chosen == "cpu" and where.type != "cpu":
        raise UsageError(f"BANSCAN_KERNELS is 'cpu', which cannot run on device {where.type!r}; unset it")
    return chosen
