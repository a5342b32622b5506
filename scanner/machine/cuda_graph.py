"""Work on a GPU recorded once and replayed as a CUDA graph, so that the GPU never waits for Python between two kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# runs before the recording, on a stream of their own: kernels are compiled and libraries choose their algorithms there
WARM = 3


@dataclass(frozen=True)
class Recording:
    """A graph and the tensors at the fixed addresses that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    tensors: tuple[Tensor, ...]


# by what is computed, and the shapes and types that it is computed for
Recordings = dict[tuple[Any, ...], Recording]


def replay(
    recordings: Recordings,
    function: Callable[..., None],
    name: tuple[Any, ...],
    changed: tuple[Tensor, ...],
    read: tuple[Tensor, ...],
) -> None:
    """Calls `function(*changed, *read)`, which changes the former in place; on a GPU by a recording of the first such call.

    Args:
        name: tells functions apart whose tensors look alike.
    """
    tensors = (*changed, *read)
    if tensors[0].device.type != "cuda":
        function(*tensors)
        return
    key = (*name, *((t.shape, t.dtype, t.stride()) for t in tensors))
    if key not in recordings:
        # they never run at the same time and share their memory
        pool = next((r.graph.pool() for r in recordings.values()), None)
        recordings[key] = _record(function, tensors, pool)
    recording = recordings[key]
    for fixed, given in zip(recording.tensors, tensors, strict=True):
        fixed.copy_(given)
    recording.graph.replay()
    for fixed, given in zip(recording.tensors, changed, strict=False):
        given.copy_(fixed)


def _record(function: Callable[..., None], tensors: tuple[Tensor, ...], pool: Any) -> Recording:
    fixed = tuple(t.clone() for t in tensors)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            function(*fixed)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        function(*fixed)
    return Recording(graph, fixed)
