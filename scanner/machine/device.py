"""Where a scan runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from banscan.errors import UsageError


def find(name: str) -> torch.device:
    """The device of this name: auto (a GPU where there is one), cpu, cuda or cuda:N.

    Raises:
        UsageError: an unknown name, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"--device {name}: unknown; expected auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch {torch.__version__} sees no GPU here; use --device cpu")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return torch.device(name)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Same seed, same GPU: same numbers; and float32 means float32."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
