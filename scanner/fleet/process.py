"""Processes of this machine that scan models, each one at a time; one that dies costs the model that it was at, and no other."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import banscan
from banscan.errors import BanscanError
from banscan.scanner.fleet.place import Order

# the folder that holds the package: the child looks nowhere else for it, least of all in the folder where it is started
ROOT = Path(banscan.__file__).parents[1]
CODE = "import sys; sys.path.append(sys.argv[1]); from banscan.scanner.fleet.{} import main; main()"


def command(module: str) -> tuple[str, ...]:
    """What starts a process that runs the `main` of a module of this room."""
    return sys.executable, "-P", "-c", CODE.format(module), str(ROOT)


# what scans
COMMAND = command("worker")
# seconds for ending by itself
GRACE = 3
# the path of a model, how far its scan is, as `progress.Progress` is told, and the seconds that it still takes where that is known
Show = Callable[[str, str, int, int, float | None], None]


def unseen(model: str, stage: str, done: int, total: int, left: float | None) -> None:
    """Shows nothing."""


@dataclass
class Process:
    """One process, started when it is first needed, and anew after it has died."""

    threads: int
    folder: str | None = None
    show: Show = unseen
    started: "subprocess.Popen[bytes] | None" = None
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def scan(self, order: Order) -> str | None:
        """As `place.Hand` has it."""
        code = self.done(order)
        return None if code is None else ending(code)

    def done(self, order: Order) -> int | None:
        """Has a model scanned; the return code of the process where it ended over it."""
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(order)).encode("ascii") + b"\n")
            process.stdin.flush()
        # how far it is, and an empty line when it is done
        while line := process.stdout.readline():
            if not line.strip():
                return None
            try:
                stage, done, total, left = json.loads(line)
            except ValueError:  # half a line, of one that is killed
                continue
            self.show(order.model, stage, done, total, left)
        return process.wait()

    def end(self) -> None:
        """As `place.Hand` has it."""
        with self.lock:
            self.ended = True
        if self.started is None:
            return
        dismiss(self.started, GRACE)
        self._close(self.started)

    def _start(self) -> "subprocess.Popen[bytes]":
        with self.lock:
            if self.ended:
                raise BanscanError("stopped")
            if self.started is None or self.started.poll() is not None:
                if self.started is not None:
                    self._close(self.started)
                environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
                # Ctrl-C is for the process that started it, which then ends this one
                more: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
                self.started = subprocess.Popen(COMMAND, env=environment, cwd=self.folder, **more)
            return self.started

    @staticmethod
    def _close(ended: "subprocess.Popen[bytes]") -> None:
        """Closes the pipes of a process that has ended."""
        for pipe in (ended.stdin, ended.stdout):
            with contextlib.suppress(OSError):  # of stdin, where an order could not be written any more
                pipe.close()  # type: ignore[union-attr]


@dataclass(frozen=True)
class Processes:
    """So many of them, each in so many threads."""

    hands: int
    threads: int
    show: Show = unseen

    def hand(self) -> Process:
        """As `place.Place` has it."""
        return Process(self.threads, show=self.show)


def dismiss(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """Has a process end that goes on until its stdin is closed; after so many seconds it is killed."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ending(code: int) -> str:
    """What became of a process that ended over a model, and what to do."""
    if code >= 0:
        return f"the process that scanned it ended with {code}; scan it alone, with --debug"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    more = ", perhaps for want of memory; give fewer --jobs or fewer --max-images" if name == "SIGKILL" else "; scan it again"
    return f"the process that scanned it was ended by {name}{more}"
