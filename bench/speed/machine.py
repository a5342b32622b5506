"""What the machine can do at most, measured in the same run: products of matrices, and copies of memory."""

import time
from collections.abc import Callable
from statistics import median

import torch


def seconds(work: Callable[[], object], runs: int, device: torch.device) -> list[float]:
    """Wall seconds of each of some runs behind one that warms up."""
    result = []
    for _ in range(runs + 1):
        wait(device)
        begin = time.perf_counter()
        work()
        wait(device)
        result.append(time.perf_counter() - begin)
    return result[1:]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rates(dtype: torch.dtype, device: torch.device) -> tuple[float, float]:
    """Operations a second of a large matrix product in this type, bytes a second of a copy, read and written."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = median(seconds(lambda: a @ b, 5, device))
    source = torch.empty((1 << 30) if device.type == "cuda" else (1 << 28), dtype=torch.uint8, device=device).zero_()
    target = torch.empty_like(source)
    copy = median(seconds(lambda: target.copy_(source), 5, device))
    return 2 * side**3 / product, 2 * len(source) / copy


def peak(work: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes of a GPU's memory that one run has in use; a CPU's allocator gives nothing back between runs, so that none shows."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    wait(device)
    return torch.cuda.max_memory_allocated(device)
