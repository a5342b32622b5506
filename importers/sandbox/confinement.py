"""What a process may use from now on: time, memory, and files by Landlock, which Linux has since 5.13."""

import contextlib
import os
import resource
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from banscan.importers.sandbox.budget import Budget, memory_for, seconds_for

try:
    import landlockpy
except ImportError:  # it is a dependency on Linux only
    landlockpy = None  # type: ignore[assignment]

# what libraries read about the machine, and what Python and torch are made of
SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system")
NULL = Path(os.devnull)


def limit(budget: Budget) -> None:
    """Sets what this process may use at most, beside what it has used by now. A stricter limit of the system's stays."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + budget.seconds
    memory = _taken() + budget.memory
    _lower(resource.RLIMIT_CPU, seconds, seconds_for(budget.more) + 2)  # the first is told from a lack of memory
    _lower(resource.RLIMIT_AS, memory, memory_for(budget.more))
    _lower(resource.RLIMIT_FSIZE, 2 * memory, 0)
    _lower(resource.RLIMIT_CORE, 0, 0)


def grant(size: int) -> None:
    """Allows what reading this many bytes of data outside the file takes, as far as the budget has it."""
    for kind, more in ((resource.RLIMIT_CPU, seconds_for(size)), (resource.RLIMIT_AS, memory_for(size))):
        now, most = resource.getrlimit(kind)
        if now != resource.RLIM_INFINITY:
            resource.setrlimit(kind, (now + more if most == resource.RLIM_INFINITY else min(now + more, most), most))


def _taken() -> int:
    """Bytes of address space."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no Linux; as much as torch takes there
        return 8 << 30


def _lower(kind: int, most: int, more: int) -> None:
    """Sets a limit that can be raised by so much."""
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(kind)[1]
        bounds = [value if hard == resource.RLIM_INFINITY else min(value, hard) for value in (most, most + more)]
        resource.setrlimit(kind, (bounds[0], bounds[1]))


def confine(readable: Iterable[Path], writable: Iterable[Path]) -> str | None:
    """Takes every file but these from this process, and what connects it with others; its own code stays readable.

    Returns:
        None, or why that cannot be done here.
    """
    if sys.platform != "linux":
        return f"{sys.platform} has no Landlock"
    if landlockpy is None:
        return "the package landlockpy is not installed"
    if not landlockpy.supported():
        return "this kernel has no Landlock"
    access = landlockpy.AccessFS
    read = access.READ_FILE | access.READ_DIR
    code = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {p for p in sys.path if p}
    # an uninstalled checkout, or one that is installed in place, lies anywhere
    code |= {str(Path(__file__).resolve().parents[2]), *(str(Path(p).resolve()) for p in code)}
    try:
        with landlockpy.Ruleset(scoped=landlockpy.Scope.ABSTRACT_UNIX_SOCKET | landlockpy.Scope.SIGNAL) as rules:
            for path in {*map(Path, SYSTEM), *map(Path, code), *readable}:
                if path.exists():
                    rules.allow_path(path, read if path.is_dir() else access.READ_FILE)
            for path in writable:
                rules.allow_path(path, ~access.EXECUTE)
            if NULL.exists():
                rules.allow_path(NULL, access.READ_FILE | access.WRITE_FILE)
            rules.restrict()
    except (landlockpy.LandlockError, OSError) as error:
        return f"Landlock cannot be used here ({error})"
    return None
