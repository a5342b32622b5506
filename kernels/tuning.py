"""Which of several ways to compute the same is taken on a GPU: the fastest that was measured there, otherwise the first."""

import math
from collections.abc import Callable
from statistics import median
from typing import Any, TypeVar

import torch
import triton

from banscan import cache
from banscan.kernels.switches import switch

# of the cache
ROOM = "kernels"
# measures what the cache does not know yet; what it knows is taken always
NAME, VALUES = "BANSCAN_TUNE", ("off", "on")
RUNS = 10
Choice = TypeVar("Choice")
# by question, so that a file is read once
_known: dict[tuple[Any, ...], Any] = {}


def best(
    name: str,
    shape: tuple[Any, ...],
    choices: tuple[Choice, ...],
    launch: Callable[[Choice], object],
    where: torch.device,
    *,
    measure: bool | None = None,
) -> Choice:
    """One of the choices, told apart by their `str`, for a kernel and whatever its time depends on.

    Args:
        shape: plain values; the choices follow from it and the name. What was found for them once is found again in this process.
        launch: runs one of them; called several times, and each time must do the same.
        measure: whether to measure where the cache knows nothing; by default BANSCAN_TUNE=on says so.
    """
    if where.type != "cuda" or len(choices) == 1:
        return choices[0]
    # once a launch: nothing more than this is made where the answer is known
    key = (name, shape, where.index, measure)
    found: Choice | None = _known.get(key)
    if found is None:
        wanted = measure if measure is not None else switch(NAME, VALUES) == "on"
        if wanted and torch.cuda.is_current_stream_capturing():
            # nothing can be waited for while a graph is recorded
            return choices[0]
        found = _known[key] = _looked_up(question(name, shape, choices, where), choices, launch, where, wanted)
    return found


def question(name: str, shape: tuple[Any, ...], choices: tuple[Any, ...], where: torch.device) -> dict[str, Any]:
    """What an answer holds for: this GPU, these versions, this kernel and shape, these choices."""
    return {
        "kernel": name,
        "shape": [str(value) for value in shape],
        "choices": [str(choice) for choice in choices],
        "device": torch.cuda.get_device_name(where),
        "capability": list(torch.cuda.get_device_capability(where)),
        "triton": triton.__version__,
        "torch": torch.__version__,
    }


def _looked_up(
    asked: dict[str, Any], choices: tuple[Choice, ...], launch: Callable[[Choice], object], where: torch.device, measure: bool
) -> Choice:
    by_name = {str(choice): choice for choice in choices}
    known = cache.read(ROOM, asked)
    if known in by_name:
        return by_name[known]
    if not measure:
        return choices[0]
    times = {told: _time(launch, choice, where) for told, choice in by_name.items()}
    fastest = min(times, key=times.__getitem__)
    if times[fastest] == math.inf:
        return choices[0]
    cache.write(ROOM, asked, fastest, {"microseconds": {told: round(t, 2) for told, t in times.items() if t < math.inf}})
    return by_name[fastest]


def _time(launch: Callable[[Choice], object], choice: Choice, where: torch.device) -> float:
    """Microseconds of one launch; infinite where the GPU has not room for it, or the compiler fails on it."""
    try:
        return microseconds(lambda: launch(choice), where)
    except (triton.runtime.errors.OutOfResources, triton.runtime.errors.PTXASError, triton.CompilationError, torch.OutOfMemoryError):
        return math.inf


def microseconds(run: Callable[[], object], where: torch.device) -> float:
    """The median of RUNS runs on a GPU, behind one that compiles."""
    with torch.cuda.device(where):
        run()
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(RUNS)]
        for begin, end in pairs:
            begin.record()
            run()
            end.record()
        torch.cuda.synchronize(where)
        return 1000 * float(median(begin.elapsed_time(end) for begin, end in pairs))
