"""A command in a process group of its own, with a limit of time, and what it took."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# how often it is asked whether it has ended, in seconds
EVERY = 0.2


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, None where the limit stopped it.
        seconds: wall-clock time.
        peak_mb: the largest memory of it or any process that it waited for, in MB.
        out, err: what it wrote.
    """

    code: int | None
    seconds: float
    peak_mb: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of what it complained of."""
        return (self.err.strip().splitlines() or [""])[-1].strip()


def run(command: Sequence[str], limit: float, folder: Path) -> Ended:
    """Runs a command in `folder`; after `limit` seconds it is killed with all that it started."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, cwd=folder)
        status, usage, late = None, None, False
        while status is None:
            pid, ended, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                status, usage = ended, used
            elif not late and time.monotonic() - begun > limit:
                late = True
                os.killpg(child.pid, signal.SIGKILL)
            else:
                time.sleep(EVERY)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert usage is not None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        # Linux counts in kB
        return Ended(None if late else child.returncode, time.monotonic() - begun, usage.ru_maxrss // 1024, *texts)
