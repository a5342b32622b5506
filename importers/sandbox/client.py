"""The near end of the process that opens model files: started when it is first needed, used again for every file after it."""

import atexit
import contextlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch

from banscan import errors
from banscan.errors import BanscanError, ModelError
from banscan.importers.sandbox import server
from banscan.importers.sandbox.budget import Budget
from banscan.importers.sandbox.server import ANSWER, GIVEN, OUTCOME

PACKAGE = Path(inspect.getfile(errors)).parent
# what a child may need to find shared libraries; nothing else of the user's environment reaches it
KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
FIXED = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "CUDA_VISIBLE_DEVICES": ""}

# bytes that a disk has free where it is not full
ROOM = 1 << 20


@dataclass
class _Server:
    """The process, and whose it is: after a fork it is the parent's alone."""

    process: subprocess.Popen[bytes]
    owner: int
    errors: IO[bytes]


_lock = threading.Lock()
_server: _Server | None = None


def call(task: str, arguments: dict[str, Any], given: dict[str, Any] | None, *, path: Path, budget: Budget) -> tuple[Any, str | None]:
    """What a task of `tasks` answers for a model file, and why it could not be confined, if so.

    Args:
        arguments: plain values; `given`: tensors, or dictionaries of them, by the names of the task's arguments.
        path: the model's file; its folder is all that the child sees of the user's files.

    Raises:
        BanscanError: what the task raised, or one that says which limit it met.
    """
    with tempfile.TemporaryDirectory(prefix="banscan-") as folder, _lock:
        if given is not None:
            _save(given, Path(folder) / GIVEN)
        request = {
            "task": task,
            "arguments": arguments,
            "given": given is not None,
            "folder": folder,
            "cwd": os.getcwd(),
            "readable": [str(path), str(path.resolve()), str(path.resolve().parent)],
            "budget": asdict(budget),
            "wall": budget.wall,
        }
        ended = _asked(request)
        outcome = _outcome(Path(folder) / OUTCOME)
        if outcome is None or "error" in outcome:
            _check_room(Path(folder))
            raise _failure(path, budget, ended, outcome)
        return torch.load(Path(folder) / ANSWER, weights_only=True), outcome["unconfined"]


def _save(value: dict[str, Any], path: Path) -> None:
    try:
        torch.save(value, path)
    except (RuntimeError, OSError):  # torch has no exception of its own for a full disk
        _check_room(path.parent)
        raise


def _check_room(folder: Path) -> None:
    """Raises BanscanError where something failed because the disk is full."""
    if shutil.disk_usage(folder).free < ROOM:
        raise BanscanError(f"{folder}: no room for temporary files; make some, or let TMPDIR name another place")


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """How the child of this request ended. An interruption ends the process with it."""
    process = _running().process
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        while line := process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            if "ready" not in answer:
                return answer
    except BrokenPipeError:
        pass
    except BaseException:
        _stop()
        raise
    said = _last_words()
    _stop()
    return {"status": None, "timed_out": False, "said": said}


def _last_words() -> str:
    """The last line that the process wrote where nobody reads it."""
    if _server is None:
        return ""
    _server.errors.seek(0, os.SEEK_END)
    _server.errors.seek(max(0, _server.errors.tell() - 2000))
    lines = _server.errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""


def _outcome(path: Path) -> dict[str, Any] | None:
    try:
        read: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return read


def _failure(path: Path, budget: Budget, ended: dict[str, Any], outcome: dict[str, Any] | None) -> BanscanError:
    """The error that says why there is no answer."""
    kind = None if outcome is None else outcome.get("error")
    if outcome is not None and isinstance(found := getattr(errors, str(kind), None), type) and issubclass(found, BanscanError):
        return found(str(outcome["text"]))
    if outcome is not None and kind == "fault":
        said = " ".join(str(outcome.get("text")).split())[:200]
        error = BanscanError(f"{path}: banscan failed on it ({said}); please report it with the file")
        error.add_note(str(outcome.get("trace")))
        return error
    status = ended["status"]
    if status is None:
        why = f" ({ended['said']})" if ended.get("said") else ", perhaps for want of memory"
        return BanscanError(f"{path}: the process that opens model files ended{why}; run again, or install banscan again")
    hint = "the file is damaged or hostile, or larger than this machine can take"
    if ended["timed_out"] or status == -signal.SIGXCPU:
        return ModelError(f"{path}: opening it takes more than {budget.seconds} seconds; {hint}")
    # a child without an outcome had no memory left to write it
    if kind == "memory" or status in (0, -signal.SIGKILL, -signal.SIGABRT):
        return ModelError(f"{path}: opening it takes more than {budget.memory / 1e9:.1f} GB; {hint}")
    told = signal.Signals(-status).name if status < 0 else status
    return ModelError(f"{path}: the library that reads it crashed ({told}); the file is damaged or hostile")


def _running() -> _Server:
    """The process, started anew where there is none."""
    global _server
    if _server is not None and _server.process.poll() is not None:
        _stop()
    if _server is None or _server.owner != os.getpid():
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | FIXED
        command = [sys.executable, "-I", "-W", "ignore", inspect.getfile(server), str(PACKAGE)]
        said = tempfile.TemporaryFile()  # noqa: SIM115 it is open as long as the process
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": said}
        # Ctrl-C is for the scan, which then ends this process itself
        process = subprocess.Popen(command, env=environment, cwd="/", start_new_session=True, **pipes)
        _server = _Server(process, os.getpid(), said)
    return _server


@atexit.register
def _stop() -> None:
    """Ends the process and the child that it has."""
    global _server
    if _server is not None and _server.owner == os.getpid():
        process = _server.process
        for pipe in (process.stdin, process.stdout, _server.errors):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    _server = None
