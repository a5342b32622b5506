"""How many images fit into memory at once; by the machine, not by what is free now, so that the same machine gives the same numbers."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import fx

# the share of the memory that may be taken, in a machine that runs other things and on a GPU
SHARE = {"cpu": 0.25, "cuda": 0.4}
# what a laptop has: no more is reckoned with on a CPU unless somebody gives it, so that larger machines give the same numbers
LAPTOP = 8 << 30
# more at once gains nothing
MOST = {"cpu": 512, "cuda": 1 << 15}
# on a CPU the largest tensor should stay in its cache, but fewer images than FEW are slower still: on an AMD EPYC, one thread, 8 MB were
# within a tenth of the best for ResNet18, VGG16 and DenseNet121 in both number formats, of 16 to 512 images tried
CACHE, FEW = 8 << 20, 64
# of large images so many are enough whose largest tensors take this much together: on the same machine 8 images of 224 x 224 pixels at once
# took a quarter less time each than 32, in MobileNetV2 and ResNet50, with and without a gradient
ENOUGH, LEAST = 16 << 20, 8
# what is kept for the gradient, and the gradient itself
COPIES = 2
# images that graphs are traced with
TRACED = 2
# without a gradient, what the largest tensor of a batch may take, and the most images of one
FORWARD = {"cpu": 64 << 20, "cuda": 1 << 30}
BATCH = 250
# likewise of a batch that should not be taken apart
WHOLE = {"cpu": 64 << 20, "cuda": 2 << 30}
LIMIT = Path("/sys/fs/cgroup/memory.max")
STATUS = Path("/proc/self/status")
# what somebody gave in place of what there is
_bound: ContextVar[int | None] = ContextVar("bound", default=None)


@contextmanager
def bounded(most: int | None) -> Iterator[None]:
    """All that is computed in here takes as much memory as on a device that has so many bytes; None for what it has."""
    token = _bound.set(most)
    try:
        yield
    finally:
        _bound.reset(token)


def images_at_once(nodes: Iterable[fx.Node], dtype: torch.dtype, device: torch.device) -> int:
    """Images whose gradients can be computed at once, where every one leaves the tensors of these nodes behind."""
    sizes = [dtype.itemsize * values(node) // TRACED for node in nodes]
    kind = "cuda" if device.type == "cuda" else "cpu"
    room = int(SHARE[kind] * usable(device)) // max(1, COPIES * sum(sizes))
    if kind == "cpu":
        largest = max(1, *sizes)
        room = min(room, max(min(FEW, max(LEAST, ENOUGH // largest)), CACHE // largest))
    return max(1, min(MOST[kind], room))


def answered_at_once(nodes: Iterable[fx.Node], device: torch.device) -> int:
    """Images whose logits are computed at once, where nothing is kept for a gradient."""
    return max(1, min(BATCH, FORWARD["cuda" if device.type == "cuda" else "cpu"] // _largest(nodes)))


def together(nodes: Iterable[fx.Node], device: torch.device) -> int:
    """Images that are looked at as one batch where its images are compared with one another, and nothing is kept for a gradient.

    Only such as are too large for it are taken in parts: what is measured of a batch should be that of all images.
    """
    return max(FEW, WHOLE["cuda" if device.type == "cuda" else "cpu"] // _largest(nodes))


def _largest(nodes: Iterable[fx.Node]) -> int:
    """Bytes that the largest of these tensors takes of one image in float32; at least 1."""
    return max(1, max((values(node) * torch.float32.itemsize // TRACED for node in nodes), default=1))


def values(node: fx.Node) -> int:
    """Values of a node's tensor when the graph was traced. Asking a free size for its number would fix it."""
    value = node.meta.get("val")
    if node.op == "get_attr" or not isinstance(value, torch.Tensor):
        return 0
    return math.prod(size.node.hint if isinstance(size, torch.SymInt) else size for size in value.shape)


def usable(device: torch.device) -> int:
    """Bytes of the device that a scan may reckon with."""
    bound = _bound.get()
    if bound is None and device.type != "cuda":
        bound = LAPTOP
    return total(device) if bound is None else min(bound, total(device))


def total(device: torch.device) -> int:
    """Bytes of memory that a device has, or that a container may use of it."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        here = 4 << 30
    try:
        return min(here, int(LIMIT.read_text()))
    except (OSError, ValueError):
        return here


def restart(device: torch.device) -> None:
    """From here on `most` counts on a GPU; the system counts a process from its start."""
    if device.type == "cuda":
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)


def most(device: torch.device) -> dict[str, int]:
    """The most bytes that were in use: of the `process` since its start, where the system says so, and of a GPU by its name."""
    used = {}
    with suppress(OSError, StopIteration, ValueError):
        # getrusage would begin with what the process had that started this one
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        used["process"] = 1024 * int(line.split()[1])
    if device.type == "cuda":
        used[str(device)] = int(torch.cuda.max_memory_allocated(device))
    return used
