"""How many threads a scan takes: as many as the process is allowed, not as the machine has. More would wait for one another."""

import math
import os
import re
from collections.abc import MutableMapping
from pathlib import Path

# the limit of a container in microseconds of processor time in every period: both in one file, or in two where Linux is older
LIMIT = Path("/sys/fs/cgroup/cpu.max")
LIMITS = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")

# no machine has more; a library that is asked for as many as it likes ends the process
MOST = 1024
NAME = "OMP_NUM_THREADS"
# how often a thread of GNU's OpenMP looks for more work before it sleeps; by itself 300,000 times, which takes the processor from others
# that have work. On two cores beside one other busy process the clean example takes 30 s so and 22 s with this, alone 11.7 s and 12.2 s
PATIENCE, LOOKS = "GOMP_SPINCOUNT", "1000"
# what else says how they wait
WAITING = "OMP_WAIT_POLICY"


def tidy(environment: MutableMapping[str, str]) -> None:
    """Takes an OMP_NUM_THREADS out that says no number of threads; called before a library reads it."""
    given = environment.get(NAME)
    if given is not None and not (
        re.fullmatch(r"[0-9, ]{1,100}", given) and all(p.strip() and 1 <= int(p) <= MOST for p in given.split(","))
    ):
        del environment[NAME]


def yielding(environment: MutableMapping[str, str]) -> None:
    """Lets threads sleep soon that wait for others, unless somebody said how they wait; called before a library reads it."""
    if WAITING not in environment:
        environment.setdefault(PATIENCE, LOOKS)


def share(given: int | None, parts: int) -> int:
    """What each of so many processes gets of the threads that are given, that OMP_NUM_THREADS names, or that may be used."""
    named = os.environ.get(NAME, "").partition(",")[0].strip()
    return max(1, (given or (int(named) if named.isdecimal() else allowed())) // max(1, parts))


def allowed() -> int:
    """The processors that this process may run on, where the system can say, and no more than its container may use."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(_quota(), here)))


def _quota() -> float:
    """Processors that the container's limit amounts to; infinite where there is none."""
    try:
        most, period = map(int, LIMIT.read_text().split() if LIMIT.exists() else (path.read_text() for path in LIMITS))
    except (OSError, ValueError):  # no such files; "max", which is no limit
        return math.inf
    return most / period if most > 0 and period > 0 else math.inf
