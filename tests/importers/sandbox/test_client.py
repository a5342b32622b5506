"""The process that opens model files: it answers, survives what files do to it, and does not outlive the scan."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from banscan import errors, importers, reader
from banscan.errors import BanscanError, ModelError, UsageError
from banscan.importers.sandbox import client
from banscan.importers.sandbox.budget import Budget, reading


def process() -> Any:
    return reader.start().process


def gone(pid: int) -> bool:
    """Whether a process ends within a few seconds; one that nobody has waited for yet has ended."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_one_process_serves_every_file(model_file: Path) -> None:
    importers.load(model_file)
    first = process().pid
    importers.load(model_file)
    assert process().pid == first


@pytest.mark.slow
def test_a_killed_process_is_started_again(model_file: Path) -> None:
    importers.load(model_file)
    killed = process()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert importers.load(model_file).classes > 1


def test_an_error_keeps_its_kind_and_text(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"model\.onnx: not an ONNX model"):
        importers.load(tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="no such file"):
        importers.load(tmp_path / "none.onnx")


def test_paths_are_those_that_the_user_gave(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_file.parent)
    assert importers.load(model_file.name).source.path == Path(model_file.name)
    (model_file.parent / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"^broken\.onnx: "):
        importers.load("broken.onnx")


def test_a_file_that_takes_too_long_or_too_much(model_file: Path) -> None:
    arguments = {"path": str(model_file), "size": None, "logits": None}
    with pytest.raises(ModelError, match="takes more than -1 seconds; the file is damaged or hostile"):
        client.call("read", arguments, None, path=model_file, budget=Budget(seconds=-1, memory=1 << 30))
    with pytest.raises(ModelError, match=r"takes more than 0\.0 GB; the file is damaged or hostile"):
        client.call("read", arguments, None, path=model_file, budget=Budget(seconds=20, memory=1 << 16))


@pytest.mark.parametrize(
    ("ended", "outcome", "kind", "message"),
    [
        ({"status": -signal.SIGSEGV, "timed_out": False}, None, ModelError, "crashed .SIGSEGV"),
        ({"status": -signal.SIGKILL, "timed_out": True}, None, ModelError, "more than 7 seconds"),
        ({"status": -signal.SIGABRT, "timed_out": False}, None, ModelError, "more than 2.1 GB"),
        ({"status": None, "timed_out": False}, None, BanscanError, "the process that opens model files ended"),
        ({"status": 0, "timed_out": False}, {"error": "fault", "text": "KeyError: 1", "trace": "at line 1"}, BanscanError, "KeyError: 1"),
        ({"status": 0, "timed_out": False}, {"error": "EvidenceError", "text": "few"}, errors.EvidenceError, "few"),
        ({"status": 0, "timed_out": False}, {"error": "__doc__", "text": "odd"}, ModelError, "more than 2.1 GB"),
    ],
)
def test_what_is_said_of_a_child_that_ended(ended: dict[str, Any], outcome: dict[str, Any] | None, kind: type, message: str) -> None:
    found = client._failure(Path("m.onnx"), Budget(seconds=7, memory=2_100_000_000), ended, outcome)
    assert type(found) is kind
    with pytest.raises(kind, match=message):
        raise found


@pytest.mark.slow
def test_no_process_outlives_the_scan(model_file: Path) -> None:
    """Whatever ends it: it is its parent's end of a pipe that the process watches."""
    script = f"""
import os, signal
from banscan import importers, reader
importers.load({str(model_file)!r})
print(reader.start().process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert gone(int(done.stdout))


@pytest.mark.slow
def test_an_interruption_ends_the_child_with_it(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importers.load(model_file)
    begun = process()

    def interrupted(*_: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(client.json, "loads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.call("read", {"path": str(model_file), "size": None, "logits": None}, None, path=model_file, budget=reading(model_file))
    monkeypatch.undo()
    assert begun.poll() is not None
    assert importers.load(model_file).classes > 1


def test_no_folder_is_left(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "own"))
    importers.load(model_file)
    with pytest.raises(ModelError):
        importers.load(__file__)
    assert list((tmp_path / "own").iterdir()) == []
