"""Commands that are interrupted, or whose surroundings fail, with real model files: what they say, and that they leave nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from tests.conftest import SIZE, Net
from tests.scanner.cli.test_ending import ROOT, told
from tests.test_text import HOSTILE

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")]
COMMAND = [sys.executable, "-m", "banscan"]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Net().eval(), torch.zeros(2, 3, SIZE, SIZE)).save(str(path))
    return path


def children(pid: int) -> set[int]:
    """The living processes that this one started, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {child for child, parent in parents.items() if parent == pid}
    return found.union(*(children(child) for child in found))


def soon(condition: Any, seconds: float = 20) -> Any:
    """Waits until it holds."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


@pytest.fixture(params=[("inspect", 1), ("inspect", 2), ("scan", 1), ("scan", 2)], ids=lambda p: f"{p[0]}-{('before', 'while')[p[1] - 1]}")
def reading(
    script: Path, image_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """A command before the process that opens files is asked, and while a child of it opens one; `scan` loads the rest beside it."""
    name, count = request.param
    command = [*COMMAND, name, str(script), *(("--clean-dir", str(image_dir)) if name == "scan" else ())]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, preexec_fn=heard, **pipes) as process:
        yield process, soon(lambda: len(found := children(process.pid)) >= count and found)


def heard() -> None:
    """A shell's background jobs ignore SIGINT, those of nohup SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_while_a_file_is_opened(reading: tuple[subprocess.Popen[str], set[int]], number: int, tmp_path: Path) -> None:
    process, begun = reading
    assert begun
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "stopped\n")
    assert process.returncode == 128 + number
    assert soon(lambda: not any(Path(f"/proc/{child}").exists() for child in begun))
    assert list(tmp_path.iterdir()) == []


def test_killed_itself(reading: tuple[subprocess.Popen[str], set[int]]) -> None:
    process, begun = reading
    process.kill()
    process.communicate(timeout=30)
    assert begun
    assert soon(lambda: not any(Path(f"/proc/{child}").exists() for child in begun))


@pytest.mark.parametrize("reading", [("inspect", 2)], indirect=True)
def test_killed_child(reading: tuple[subprocess.Popen[str], set[int]], tmp_path: Path) -> None:
    process, begun = reading
    for child in begun:
        os.kill(child, signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.count("\n") == 1
    assert "the process that opens model files ended" in error
    assert list(tmp_path.iterdir()) == []


def test_full_disks(script: Path, image_dir: Path, tmp_path: Path) -> None:
    """In a name space of its own, where a small file system can be mounted."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode or not shutil.which("mount"):
        pytest.skip("cannot mount here")
    (tmp_path / "full").mkdir()
    mount = f"mount -t tmpfs -o size=40k tmpfs {tmp_path}/full"
    full = tmp_path / "full"
    scan = f"{script} --clean-dir {image_dir} --min-images 1000 -o {full}/report.json"
    inspect = f"inspect {script}", 32 << 10, "no room for temporary files"
    for setting, command, size, match in (("", scan, 40 << 10, "report.json: cannot be written"), (f"TMPDIR={full}", *inspect)):
        fill = f"{mount} && head -c {size} /dev/zero > {full}/fill"
        line = f"{fill}; {setting} {' '.join(COMMAND)} {command}; code=$?; ls {full}; exit $code"
        result = subprocess.run(["unshare", "-rm", "bash", "-c", line], capture_output=True, encoding="latin-1", check=False, cwd=ROOT)
        told(result, 2, match)
        assert result.stdout == "fill\n"


def test_names_and_errors_of_a_file_reach_no_terminal_raw(model_file: Path, tmp_path: Path) -> None:
    """An operator that does not exist, a producer and a node, called by everything hostile."""
    name = "".join(value.encode(errors="ignore").decode() for value in HOSTILE.values()).replace("\0", "")
    model = onnx.load(model_file)
    model.producer_name = name
    onnx.save(model, tmp_path / "named.onnx")
    model.graph.node[3].name = model.graph.node[3].op_type = name
    onnx.save(model, tmp_path / "\x1b]0;title\x07.onnx")
    told(inspected(tmp_path / "\x1b]0;title\x07.onnx"), 3, r"\\x1b]0;title\\x07\.onnx: not a valid ONNX model")
    done = inspected(tmp_path / "named.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.encode("latin-1").decode().split("\n"))


def inspected(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, "inspect", str(path)], capture_output=True, encoding="latin-1", check=False, cwd=ROOT)
