"""The steps of `make bench-gpu`: none stops another, each leaves its result, and all of them end in time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import gpu
from bench.gpu import Step
from bench.speed.__main__ import PARTS

STAMP = {"device": "cpu", "commit": "c"}


@pytest.mark.slow
def test_no_step_stops_another(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gpu.jsonl"
    # the fourth one sees that the results of those before it are there, and no other limit but its own has passed
    seen = f"import pathlib, sys; print(len(pathlib.Path({str(file)!r}).read_text().splitlines())); sys.exit(1)"
    todo = [
        Step("passes", ("-c", "print('well', 'done')"), 60),
        Step("fails", ("-c", "print('why'); raise SystemExit(3)"), 60),
        Step("hangs", ("-c", "import time; print('begun'); time.sleep(600)"), 6),
        Step("expects 1", ("-c", seen), 60, 1),
    ]
    found = gpu.every(iter(todo), gpu.MINUTES, file, STAMP)
    assert [r["result"] for r in found] == ["passed", "failed", "out of time", "passed"]
    assert [r["last"] for r in found] == [["well done"], ["why"], ["begun"], ["3"]]
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{**r, **STAMP} for r in found]
    assert "well done" in capfd.readouterr().out
    assert "failed" in gpu.summary(found)
    assert "exit code 3 and not 0" in gpu.summary(found)
    assert "2 of 4 steps passed" in gpu.summary(found)


@pytest.mark.slow
def test_what_a_step_started_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = f"import os, pathlib, time; pathlib.Path({str(file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    row = gpu.run(Step("has a child", ("-c", code), 60), 6)
    assert row["result"] == "out of time"
    pid = int(file.read_text())
    for _ in range(100):  # until somebody has collected what is left of it
        if _gone(pid):
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} is still there")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_no_time_left(tmp_path: Path) -> None:
    (row,) = gpu.every(iter([Step("late", ("-c", ""), 60)]), 0.01, tmp_path / "gpu.jsonl", STAMP)
    assert row["result"] == "left out"
    assert "left out" in gpu.summary([row])


def test_steps(tmp_path: Path) -> None:
    """Every part of the benchmark is timed, in its order; what is asked of a GPU is no rehearsal."""
    assert tuple(gpu.PARTS) == PARTS
    there, here = (list(gpu.steps(device, tmp_path, tmp_path / "page.md", "c")) for device in ("cuda", "cpu"))
    assert [s.name for s in there] == [s.name for s in here]
    # the interpreter is for the rehearsal of what only a GPU runs
    assert [s.name for s in (*there, *here) if s.interpreted] == ["speed: convolutions"]
    assert not any("--small" in s.arguments or "--no-pixels" in s.arguments for s in there)
    assert [s.expected for s in there if s.name.startswith("scan")] == [1, 0]
    assert all("--device" not in s.arguments or "cuda" in s.arguments for s in there)


def test_without_torch(tmp_path: Path) -> None:
    """What is wrong is one line, not a failure of every step."""
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['gpu', '--out', sys.argv[1]]; from bench.gpu import main; main()"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no torch" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = CliRunner().invoke(gpu.main, ["--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "sees no GPU here" in result.output
