"""The wheel holds the tree, the public names are there, nothing leaks into site-packages."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import banscan

ROOT = Path(__file__).parent.parent
ROOMS = {"importers": "banscan/importers", "kernels": "banscan/kernels", "scanner": "banscan/scanner"}


def test_wheel_holds_every_module(tmp_path: Path) -> None:
    pytest.importorskip("build")
    # from a copy: an old build folder beside the sources would get into the wheel
    copy, out = tmp_path / "copy", tmp_path / "out"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "examples", "tests", "__pycache__")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    assert wheel.name.split("-")[1] == banscan.__version__
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"banscan/{p.name}" for p in (ROOT / "banscan").iterdir() if p.suffix == ".py" or p.name == "py.typed"}
    for room, inside in ROOMS.items():
        parts = [p for p in (ROOT / room).rglob("*") if p.suffix in (".py", ".json", ".html", ".css", ".npz")]
        expected |= {f"{inside}/{p.relative_to(ROOT / room).as_posix()}" for p in parts}
    expected |= {f"banscan/docs/{p.relative_to(ROOT / 'docs').as_posix()}" for p in (ROOT / "docs").glob("*.md")}
    expected |= {f"banscan/docs/evidence/{p.name}" for p in (ROOT / "docs" / "evidence").glob("*.md")}
    assert held == expected


def test_public_names() -> None:
    assert list(banscan.__all__) == sorted(banscan.__all__)
    for name in banscan.__all__:
        assert getattr(banscan, name) is not None


def test_help_does_not_load_torch() -> None:
    """Nor anything else that takes long."""
    slow = ("torch", "numpy", "scipy", "onnx", "onnxruntime", "PIL", "jinja2")
    code = f"""
import sys
from banscan.scanner.cli.commands import run
run(["--help"])
run(["scan", "--help"])
sys.exit(",".join(name for name in {slow} if name in sys.modules) or 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_version_without_installation(tmp_path: Path) -> None:
    """A checkout on PYTHONPATH is enough: its own version is not asked of what is installed, and torch is not loaded."""
    code = """
import sys
from importlib import metadata
sys.modules["torch"] = None
def version(name):
    if name != "onnx":
        raise metadata.PackageNotFoundError(name) if name != "banscan" else SystemExit(f"asked for {name}")
    return "1.2.3"
metadata.version = version
from banscan.scanner.cli.commands import run
run(["--version"])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert result.stderr == ""
    first, second = result.stdout.splitlines()
    assert first == f"banscan, version {banscan.__version__}"
    python = ".".join(map(str, sys.version_info[:3]))
    assert second == f"Python {python}, torch not installed, onnx 1.2.3, onnxruntime not installed, numpy not installed"
