"""The process that opens model files: it answers, survives what files do to it, and does not outlive the scan."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from banscan import errors, importers, reader
from banscan.errors import BanscanError, ModelError, UsageError
from banscan.importers.load import begin
from banscan.importers.sandbox import client
from banscan.importers.sandbox.budget import Budget, reading


def process() -> Any:
    return reader.start().process


def gone(pid: int) -> bool:
    """Whether a process ends soon; one that nobody has waited for yet has ended."""
    for _ in range(400):
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
@pytest.mark.parametrize("end", ["raise SystemExit", "os.kill(os.getpid(), signal.SIGKILL)", "importers.load('none.onnx')"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_process_that_nobody_asks_ends(end: str, begun: bool, model_file: Path, tmp_path: Path) -> None:
    """Neither started in vain nor at work on what nobody calls for."""
    begin = f"from banscan import importers; from banscan.importers.load import begin; begin(Path({str(model_file)!r}), None, None)"
    script = f"""
import os, signal
from pathlib import Path
from banscan import reader
print(reader.start().process.pid, flush=True)
{begin if begun else "from banscan import importers" if "importers" in end else ""}
{end}
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert gone(int(done.stdout)), done.stderr
    assert "KILL" in end or list(tmp_path.glob("banscan-*")) == []


def _asked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that the process is asked for from now on."""
    paths: list[str] = []
    sent = client._sent
    monkeypatch.setattr(client, "_sent", lambda request, given: paths.append(request["arguments"]["path"]) or sent(request, given))
    return paths


def test_what_was_begun_is_not_asked_again(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _asked_for(monkeypatch)
    begin(model_file, None, None)
    assert importers.load(model_file).classes > 1
    assert asked == [str(model_file)]
    importers.load(model_file)
    assert asked == [str(model_file)] * 2


def test_what_was_begun_is_not_taken_for_another(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file, other arguments, another folder that the path is relative to, or a file that has grown."""
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no model")
    begin(broken, None, None)
    assert importers.load(model_file).classes > 1
    begin(model_file, None, None)
    with pytest.raises(UsageError, match="no output"):
        importers.load(model_file, logits="none")
    (tmp_path / "other").mkdir()
    shutil.copy(model_file, tmp_path / "other" / broken.name)
    monkeypatch.chdir(tmp_path)
    begin(Path(broken.name), None, None)
    monkeypatch.chdir("other")
    assert importers.load(broken.name).classes > 1
    begin(broken, None, None)
    shutil.copy(model_file, broken)
    assert importers.load(broken).classes > 1


def test_what_was_begun_fails_as_if_it_had_not(tmp_path: Path) -> None:
    begin(tmp_path / "none.onnx", None, None)
    with pytest.raises(UsageError, match="no such file"):
        importers.load(tmp_path / "none.onnx")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    begin(tmp_path / "model.onnx", None, None)
    with pytest.raises(ModelError, match=r"model\.onnx: not an ONNX model"):
        importers.load(tmp_path / "model.onnx")


@pytest.mark.slow
def test_what_was_begun_by_a_killed_process_is_asked_again(model_file: Path) -> None:
    begin(model_file, None, None)
    killed = process()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert importers.load(model_file).classes > 1


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


FORKED = """
import multiprocessing, os, sys
from pathlib import Path
from banscan import importers
from banscan.importers.load import begin
from banscan.importers.sandbox import client

path = Path(sys.argv[1])
begin(path, None, None)
folder = client._begun.folder.place
child = os.fork()
if child == 0:
    client._settle()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert folder.is_dir()
other = multiprocessing.get_context("fork").Process(target=client._settle)
other.start()
other.join()
assert other.exitcode == 0
assert folder.is_dir()
assert importers.load(path).classes > 1
assert client._begun is None
assert not folder.exists()
begin(path, None, None)
print(client._begun.folder.place)
"""


@pytest.mark.slow
def test_a_fork_leaves_what_it_inherits(model_file: Path) -> None:
    """What was begun, and its folder, are those of the process that began it, however a fork of it ends; they go with that."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(model_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not Path(done.stdout.strip()).exists()
