"""The hook for pre-commit: its declaration, and its entry point as pre-commit calls it."""

import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.zoo.logic import written
from tests.importers.equivalent.network import graph
from tests.importers.structure.files import TARGET, saved

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "backdoored.onnx"


@pytest.fixture(scope="module")
def hook() -> dict[str, Any]:
    """The declaration."""
    yaml = pytest.importorskip("yaml")
    (declared,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    return declared


def called(hook: dict[str, Any], folder: Path, *names: object) -> subprocess.CompletedProcess[str]:
    """The hook on these files; `python` is that of an environment with banscan in it."""
    python, *rest = shlex.split(hook["entry"])
    assert python == "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, *rest, *map(str, names)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_declaration(hook: dict[str, Any]) -> None:
    assert {"id", "name", "entry", "language", "files"} <= hook.keys()
    assert hook["language"] == "python"
    assert all(re.search(hook["files"], name) for name in ("a/b.onnx", "b.pt", "b.pt2", "b.torchscript"))
    assert not any(re.search(hook["files"], name) for name in ("a.ts", "onnx", "a.onnx.txt", "a.py"))


def test_pre_commit_takes_the_declaration() -> None:
    clientlib = pytest.importorskip("pre_commit.clientlib")
    assert [declared["id"] for declared in clientlib.load_manifest(ROOT / ".pre-commit-hooks.yaml")] == ["banscan-structure"]


@pytest.mark.slow
def test_an_example_passes_in_silence(hook: dict[str, Any]) -> None:
    done = called(hook, ROOT, EXAMPLE.relative_to(ROOT), "examples/clean.onnx")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_files_that_are_no_models(hook: dict[str, Any], tmp_path: Path) -> None:
    """Each is one sentence; the gravest makes the exit code, which is never that of a verdict."""
    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"w": 1}))
    (tmp_path / "text.onnx").write_text("# not a model\n")
    (tmp_path / "pointer.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    done = called(hook, tmp_path, "weights.pt", "text.onnx", "pointer.onnx", "gone.onnx")
    assert (done.returncode, done.stdout) == (3, "")
    lines = done.stderr.splitlines()
    assert [line.partition(":")[2].split(":")[0].strip() for line in lines] == ["weights.pt", "text.onnx", "pointer.onnx", "gone.onnx"]
    assert "git lfs pull" in lines[2]


@pytest.mark.slow
def test_what_decides_by_the_pixels_is_shown(hook: dict[str, Any], tmp_path: Path) -> None:
    path = saved(written(graph(), "where", TARGET), tmp_path / "logic.onnx")
    done = called(hook, tmp_path, path.name)
    assert done.returncode == 2, done.stderr
    assert "What in the graph decides by the pixels" in done.stdout
    assert "--clean-dir" in done.stdout
