"""What opening a file may cost."""

from dataclasses import dataclass, replace
from pathlib import Path

MB, GB = 1 << 20, 1 << 30
# seconds of CPU for tracing the largest graph
LONGEST = 120


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Seconds of CPU, bytes of memory beside what torch takes, threads; and how much more of each a task may come to need.

    `more` is in bytes of data outside the file, which the file has to name first: see `confinement.grant`.
    """

    seconds: int
    memory: int
    threads: int = 1
    more: int = 0

    @property
    def wall(self) -> int:
        """Seconds of the clock, on a machine that does other things as well."""
        return 3 * (self.seconds + seconds_for(self.more) + LONGEST) + 10


def seconds_for(size: int) -> int:
    """Seconds of CPU for reading this many bytes."""
    return size // (10 * MB)


def seconds_for_graph(nodes: int) -> int:
    """Seconds of CPU for tracing a graph of so many nodes."""
    return min(nodes // 25, LONGEST)


def memory_for(size: int) -> int:
    """Bytes of memory for reading this many bytes: parsed, as arrays, as tensors, and once more while they are written."""
    return 6 * size


def reading(path: Path) -> Budget:
    """For reading a file: by its size, so that a small one can claim little."""
    size = path.stat().st_size if path.is_file() else 0
    try:
        beside = sum(p.stat().st_size for p in path.resolve().parent.iterdir() if p.is_file())
    except PermissionError:  # a folder that may be entered and not listed
        beside = 0
    return Budget(seconds=12 + seconds_for(size), memory=GB + memory_for(size), more=beside)


def reading_again(path: Path) -> Budget:
    """For reading a file by another library, which makes copies of its own."""
    known = reading(path)
    return replace(known, memory=2 * known.memory + memory_for(known.more))


def forcing(path: Path, seconds: float, threads: int) -> Budget:
    """For running a file with its switches set, so many seconds of it: reading it, and its tensors in copies of the graph."""
    known = reading(path)
    room = 2 * (known.memory + memory_for(known.more)) + 4 * GB
    return Budget(seconds=known.seconds + int(2 * seconds) + 60, memory=room, threads=threads, more=known.more)


def running(path: Path, own_seconds: float, largest: int, threads: int) -> Budget:
    """For its own runtime's answers: by what the traced graph took for the same, and by its largest tensor in bytes."""
    known = reading(path)
    return Budget(
        seconds=known.seconds + int(20 * own_seconds), memory=known.memory + memory_for(known.more) + 8 * largest, threads=threads
    )


def deploying(path: Path, values: int) -> Budget:
    """For quantising a file by images of so many values: its runtime answers each with all that lies between."""
    known = reading(path)
    return Budget(seconds=known.seconds + 30 + values // 20_000, memory=2 * known.memory + 2 * memory_for(known.more) + 1000 * values)
