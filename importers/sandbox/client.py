"""What is asked of the process that opens model files (`banscan.reader`), and what became of it."""

import contextlib
import json
import os
import shutil
import signal
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from banscan import errors, reader
from banscan.errors import BanscanError, ModelError
from banscan.files import Scratch
from banscan.importers.sandbox.budget import Budget
from banscan.importers.sandbox.server import ANSWER, GIVEN, OUTCOME
from banscan.reader import Reader

# bytes that a disk has free where it is not full
ROOM = 1 << 20


@dataclass(frozen=True)
class _Asked:
    """A request, the process that has it, and the folder that its answer will be in."""

    request: dict[str, Any]
    running: Reader
    folder: Scratch


_lock = threading.Lock()
# what was begun, and is not called for yet
_begun: _Asked | None = None


def begin(task: str, arguments: dict[str, Any], *, path: Path, budget: Budget) -> None:
    """Has the process do a task while this one does something else; a `call` with the same arguments then waits for the rest of it."""
    global _begun
    with _lock:
        _settle()
        _begun = _sent(_request(task, arguments, path, budget), None)


def call(task: str, arguments: dict[str, Any], given: dict[str, Any] | None, *, path: Path, budget: Budget) -> tuple[Any, str | None]:
    """What a task of `tasks` answers for a model file, and why it could not be confined, if so.

    Args:
        arguments: plain values; `given`: tensors, or dictionaries of them, by the names of the task's arguments.
        path: the model's file; its folder is all that the child sees of the user's files.

    Raises:
        BanscanError: what the task raised, or one that says which limit it met.
    """
    with _lock:
        request = _request(task, arguments, path, budget)
        asked = _taken(request) if given is None else None
        if asked is None:
            _settle()
            asked = _sent(request, given)
        with asked.folder as folder:
            ended = _ended(asked)
            outcome = _outcome(folder / OUTCOME)
            if outcome is None or "error" in outcome:
                _check_room(folder)
                raise _failure(path, budget, ended, outcome)
            return torch.load(folder / ANSWER, weights_only=True), outcome["unconfined"]


def _request(task: str, arguments: dict[str, Any], path: Path, budget: Budget) -> dict[str, Any]:
    state = None
    with contextlib.suppress(OSError):  # whoever reads the file says what is wrong with it
        about = path.stat()
        state = [about.st_size, about.st_mtime_ns]
    return {
        # a file that was written anew in the meantime is another one
        "state": state,
        "task": task,
        "arguments": arguments,
        "cwd": os.getcwd(),
        "readable": [str(path), str(path.resolve()), str(path.resolve().parent)],
        "budget": asdict(budget),
        "wall": budget.wall,
    }


def _taken(request: dict[str, Any]) -> _Asked | None:
    """What was begun, where it is this request and the process still has it."""
    global _begun
    if _begun is None or _begun.request != request or _begun.running is not reader.start():
        return None
    taken, _begun = _begun, None
    return taken


def _settle() -> None:
    """Waits for what was begun and nobody called for: the process answers one request after the other."""
    global _begun
    if _begun is not None:
        left, _begun = _begun, None
        with left.folder:
            # a fork of the process that asked has no part in it
            if left.running.owner == os.getpid() and left.running is reader.start():
                _ended(left)


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


def _sent(request: dict[str, Any], given: dict[str, Any] | None) -> _Asked:
    """Hands a request to the process. An interruption ends that with it."""
    folder = Scratch()
    try:
        if given is not None:
            _save(given, folder.place / GIVEN)
        asked = _Asked(request, reader.start(), folder)
        line = json.dumps(request | {"given": given is not None, "folder": str(folder.place)}).encode() + b"\n"
        stdin = asked.running.process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, as whoever waits for its answer will see
            stdin.write(line)
            stdin.flush()
    except BaseException:
        folder.remove()
        reader.stop()
        raise
    return asked


def _ended(asked: _Asked) -> dict[str, Any]:
    """How the child of this request ended. An interruption ends the process with it."""
    stdout = asked.running.process.stdout
    assert stdout is not None
    try:
        while line := stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            if "ready" not in answer:
                return answer
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
