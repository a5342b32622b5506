"""What is asked of the process that opens model files (`banscan.reader`), and what became of it."""

import json
import os
import shutil
import signal
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from banscan import errors, reader
from banscan.errors import BanscanError, ModelError
from banscan.importers.sandbox.budget import Budget
from banscan.importers.sandbox.server import ANSWER, GIVEN, OUTCOME

# bytes that a disk has free where it is not full
ROOM = 1 << 20


_lock = threading.Lock()


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
    running = reader.start()
    process, running.asked = running.process, True
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
        reader.stop()
        raise
    said = reader.last_words()
    reader.stop()
    return {"status": None, "timed_out": False, "said": said}


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
