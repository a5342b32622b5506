"""Every error as one sentence and an exit code: what happened and what to do. Only a verdict is ever 1."""

import errno
import os

from banscan.errors import BanscanError

ADVICE = {
    errno.ENOSPC: "make room there and run it again",
    errno.EDQUOT: "make room there and run it again",
    errno.EFBIG: "allow larger files (ulimit -f) and run it again",
    errno.EROFS: "give a place that can be written to; TMPDIR names the one for temporary files",
    errno.EACCES: "give banscan the right to it, or another place",
    errno.EPERM: "give banscan the right to it, or another place",
    errno.EMFILE: "allow more open files (ulimit -n) and run it again",
    errno.ENFILE: "close other programs and run it again",
    errno.ENOMEM: "give fewer images with --max-images",
    errno.EAGAIN: "allow more processes and threads (ulimit -u), or give fewer with --threads",
}
REPORT = "run it again with --debug and report what it prints"


def told(error: BaseException) -> tuple[str, int]:
    """The sentence and the exit code for an error."""
    if isinstance(error, BanscanError):
        return str(error), error.exit_code
    return _sentence(error), BanscanError.exit_code


def _sentence(error: BaseException) -> str:
    # torch has no exception of its own for a CPU's memory, nor for threads
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _says(error, "out of memory", "can't allocate memory")):
        return "out of memory; give less with --memory, or fewer images with --max-images"
    if isinstance(error, RecursionError):
        return "the model, or a file given with it, is nested too deep to be followed; write it again without such nesting"
    if isinstance(error, ImportError):
        return f"a package that banscan needs cannot be loaded ({_words(error)}); install banscan again"
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, RuntimeError) and _says(error, "can't start new thread"):
        return f"no further thread can be started; {ADVICE[errno.EAGAIN]}"
    kind = type(error).__name__
    words = _words(error)
    return f"banscan failed ({kind}{f': {words}' if words != kind else ''}), by a fault of its own; {REPORT}"


def _of_system(error: OSError) -> str:
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the system"
    why = error.strerror or _words(error)
    return f"{what}: {why}; {ADVICE.get(error.errno or 0, REPORT)}"


def _says(error: BaseException, *words: str) -> bool:
    return any(word in str(error) for word in words)


def _words(error: BaseException) -> str:
    """The first line of what an error says, or what kind it is."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
