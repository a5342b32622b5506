"""The process that opens model files: started when it is first needed, used again for every file after it, ended with this one.

It loads torch, which takes seconds. Whoever is about to do the same calls `start` before, so that both do it at once; nothing here needs
it. What is asked of the process, and how it is confined, is in `importers/sandbox`.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

PACKAGE = Path(__file__).parent
SERVER = PACKAGE / "importers" / "sandbox" / "server.py"
# what a child may need to find shared libraries; nothing else of the user's environment reaches it
KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
FIXED = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "CUDA_VISIBLE_DEVICES": ""}
# seconds for ending by itself
GRACE = 2


@dataclass
class Reader:
    """The process, and whose it is: after a fork it is the parent's alone."""

    process: subprocess.Popen[bytes]
    owner: int
    errors: IO[bytes]


_reader: Reader | None = None


def start() -> Reader:
    """The process, started where there is none."""
    global _reader
    if _reader is not None and _reader.process.poll() is not None:
        stop()
    if _reader is None or _reader.owner != os.getpid():
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | FIXED
        command = [sys.executable, "-I", "-W", "ignore", str(SERVER), str(PACKAGE)]
        said = tempfile.TemporaryFile()  # noqa: SIM115 it is open as long as the process
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": said}
        # Ctrl-C is for the scan, which then ends this process itself
        process = subprocess.Popen(command, env=environment, cwd="/", start_new_session=True, **pipes)
        _reader = Reader(process, os.getpid(), said)
    return _reader


def last_words() -> str:
    """The last line that the process wrote where nobody reads it."""
    if _reader is None:
        return ""
    _reader.errors.seek(0, os.SEEK_END)
    _reader.errors.seek(max(0, _reader.errors.tell() - 2000))
    lines = _reader.errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""


@atexit.register
def stop() -> None:
    """Ends the process and the child that it has."""
    global _reader
    if _reader is not None and _reader.owner == os.getpid():
        process = _reader.process
        for pipe in (process.stdin, process.stdout, _reader.errors):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        process.terminate()  # heard only while it loads; from then on it ends with its stdin, after its child
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    _reader = None
