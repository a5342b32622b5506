"""The settings file and the doctor, through the real entry point."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from banscan.errors import UsageError
from banscan.scanner.cli import config

ROOT = Path(__file__).parents[3]
MAIN = "from banscan.scanner.cli.main import main\nmain()\n"


def banscan(place: Path, *arguments: object, code: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    known = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment}
    command = [sys.executable, "-c", code + MAIN, *map(str, arguments)]
    return subprocess.run(command, cwd=place, env=known, capture_output=True, text=True, check=False, timeout=300)


def settings(place: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    done = banscan(place, "config", *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return tomllib.loads(done.stdout)


def refused(place: Path, text: str, match: str, name: str = "banscan.toml", **environment: str) -> None:
    (place / name).write_text(text)
    done = banscan(place, "m.onnx", "--clean-dir", ".", **environment)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert re.search(match, done.stderr), done.stderr


def test_what_holds_and_where_it_is_from(tmp_path: Path) -> None:
    (tmp_path / "banscan.toml").write_text(
        'seed = 3\npixels = false\nmean = [0.5, 0.4, 0.3]\nclean-dir = "imgs"\noutput = ["a.json", "b.sarif"]\n'
    )
    text = banscan(tmp_path, "config").stdout
    assert "seed = 3  # banscan.toml\n" in text
    assert "steps = 8  # default\n" in text
    assert "# eps is not set, the model decides\n" in text
    found = settings(tmp_path)
    assert (found["pixels"], found["clean-dir"], found["output"]) == (False, "imgs", ["a.json", "b.sarif"])
    # what it prints is a settings file
    (tmp_path / "banscan.toml").write_text(text)
    assert settings(tmp_path) == found
    # what means something else elsewhere is for scans alone
    assert "output" not in settings(tmp_path, "repair")
    assert settings(tmp_path, "repair")["seed"] == 3


def test_values_that_cannot_be_are_told_before_any_scan(tmp_path: Path) -> None:
    (tmp_path / "banscan.toml").write_text("effort = 3\n")
    done = banscan(tmp_path, "config")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "Error: banscan.toml: effort 3: unknown; expected quick or standard or thorough\n"


@pytest.mark.slow
def test_quiet_takes_the_place_of_a_format_in_the_file(tmp_path: Path) -> None:
    """Of one on the command line it does not."""
    report = ROOT / "tests" / "golden" / "clean.json"
    (tmp_path / "banscan.toml").write_text('[render]\nformat = "json"\n')
    assert banscan(tmp_path, "render", report).stdout.startswith("{")
    quiet = banscan(tmp_path, "render", report, "-q")
    assert (quiet.returncode, quiet.stderr, quiet.stdout.count("\n")) == (0, "", 1)
    assert "no backdoor found" in quiet.stdout.lower()
    both = banscan(tmp_path, "render", report, "-q", "--format", "json")
    assert both.returncode == 4
    assert "--quiet prints one line in its place" in both.stderr


def test_a_switch_by_either_name(tmp_path: Path) -> None:
    (tmp_path / "banscan.toml").write_text("no-pixels = true\n[repair]\npixels = true\n")
    assert (settings(tmp_path)["pixels"], settings(tmp_path, "repair")["pixels"]) == (False, True)
    (tmp_path / "banscan.toml").write_text("[repair]\nno-pixels = true\n")
    assert (settings(tmp_path)["pixels"], settings(tmp_path, "repair")["pixels"]) == (True, False)


def test_tables_of_commands_and_other_places(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.banscan]\nseed = 4\n[tool.banscan.repair]\nepochs = 7\nseed = 5\n'
    )
    assert settings(tmp_path)["seed"] == 4
    assert (settings(tmp_path, "repair")["seed"], settings(tmp_path, "repair")["epochs"]) == (5, 7)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.toml").write_text('clean-dir = "imgs"\nseed = 6\n')
    named = settings(tmp_path, BANSCAN_CONFIG="sub/other.toml")
    assert (named["seed"], named["clean-dir"]) == (6, "sub/imgs")
    assert settings(tmp_path, BANSCAN_CONFIG="")["seed"] == 0
    (tmp_path / "banscan.toml").write_text("seed = 7\n")
    assert settings(tmp_path)["seed"] == 7
    (tmp_path / "pyproject.toml").write_text("no toml")
    assert settings(tmp_path)["seed"] == 7


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sede = 1\n", r"banscan\.toml: unknown setting 'sede'; did you mean seed\?"),
        ("clean_dir = 'x'\n", r"unknown setting 'clean_dir'; did you mean clean-dir\?"),
        ("zzz = 1\n", "unknown setting 'zzz'; `banscan config` lists those that there are"),
        ("[repiar]\nseed = 1\n", r"unknown table 'repiar'; did you mean repair\?"),
        ("[repair]\njobs = 1\n", r"unknown setting 'jobs' in \[repair\]"),
        ("seed = 'x'\n", r"banscan\.toml: seed: 'x' is not a valid integer"),
        ("seed = 1.5\n", "seed: '1.5' is not a valid integer"),
        ("seed = true\n", "seed: expected a number or a text"),
        ("pixels = 1\n", "pixels: expected true or false"),
        ("fail-on = 'never'\n", "fail-on: 'never' is not one of"),
        ("seed = 1979-05-27\n", "seed: expected a number or a text"),
        ("steps = 0\n", "banscan.toml: steps 0: expected at least 1"),
        ("effort = 3\n", "banscan.toml: effort 3: unknown; expected quick or standard or thorough"),
        ("seed =\n", "no TOML .*; expected a settings file in TOML"),
        (f"seed = {'9' * 5000}\n", r"banscan\.toml: no TOML \(a number with too many digits\); expected a settings file in TOML$"),
        (f"seed = 0x{'9' * 5000}\n", "seed: expected a number of at most 20 digits$"),
        (f"mean = [1, {'9' * 4000}]\n", "mean: expected a number of at most 20 digits$"),
        ("seed = 1\0\n", r"banscan\.toml: no TOML .*; expected a settings file in TOML$"),
        ('clean-dir = "a\\u0000b"\n', "clean-dir: holds a NUL character; expected a text without$"),
        ("no-pixels = 1\n", "no-pixels: expected true or false$"),
        ("pixels = true\nno-pixels = true\n", "pixels and no-pixels are one setting; give one of them$"),
    ],
)
def test_settings_that_cannot_be(text: str, match: str, tmp_path: Path) -> None:
    refused(tmp_path, text, match)


def test_what_is_said_of_many_models_is_not_for_one_alone(tmp_path: Path) -> None:
    (tmp_path / "banscan.toml").write_text('jobs = 2\nresults = "r"\nclean-dir = "."\n')
    assert "none.onnx: no such file; expected the path of a model\n" in banscan(tmp_path, "none.onnx").stderr
    assert "expected a model, a folder of models or a pattern" in banscan(tmp_path, "none.onnx", "--jobs", 2).stderr


def test_a_merge_goes_on_without(tmp_path: Path) -> None:
    """It needs none of the settings; what is wrong with them is said."""
    (tmp_path / "banscan.toml").write_text("sede = 1\n")
    done = banscan(tmp_path, "merge", "none")
    assert done.returncode == 4
    first, second = done.stderr.splitlines()
    assert re.search(r"banscan\.toml: unknown setting 'sede'; did you mean seed\?; merge goes on without it", first)
    assert second.startswith("Error: none: no such folder; expected a folder of results")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    refused(tmp_path, "", "none.toml: no such file; expected a settings file", "x.toml", BANSCAN_CONFIG="none.toml")
    refused(tmp_path, "", "xxx: no such file; expected a settings file", "x.toml", BANSCAN_CONFIG="x" * 1000)
    refused(tmp_path, "[tool]\nbanscan = 1\n", r"pyproject\.toml: tool\.banscan is no table", "pyproject.toml")
    refused(tmp_path, "[tool.banscan]\nseed =\n", r"pyproject\.toml: no TOML", "pyproject.toml")
    # help is there whatever a file holds
    assert banscan(tmp_path, "--help").returncode == 0
    done = banscan(tmp_path, "config", "inspct", BANSCAN_CONFIG="")
    assert (done.returncode, "inspct: no command with settings; expected one of " in done.stderr) == (4, True)


@pytest.mark.parametrize("name", ["banscan.toml", "pyproject.toml"])
def test_links_to_nowhere_are_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may have been a policy behind them."""
    monkeypatch.chdir(tmp_path)
    Path(name).symlink_to("nowhere")
    with pytest.raises(UsageError, match=f"{name}: no such file; expected a settings file"):
        config.find({})


@pytest.mark.parametrize("command", [("m.onnx", "--clean-dir", "imgs"), ("calibrate", "--clean-models", "imgs", "--clean-dir", "imgs")])
def test_the_settings_are_not_overwritten(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "m.onnx").touch()
    for name, environment in (("own.json", {"BANSCAN_CONFIG": "own.json"}), ("banscan.toml", {})):
        (tmp_path / name).write_text("seed = 1\n")
        (tmp_path / "out.json").unlink(missing_ok=True)
        (tmp_path / "out.json").symlink_to(name)
        done = banscan(tmp_path, *command, "-o", "out.json", **environment)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == f"Error: out.json: would be overwritten, but it is read as {name}; give the output another name\n"
        assert (tmp_path / name).read_text() == "seed = 1\n"


@pytest.mark.slow
def test_the_command_line_wins(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "banscan.toml").write_text(
        f'seed = 3\nsteps = 2\ndry-run = true\nclean-dir = "{image_dir}"\noutput = "r.json"\nquiet = true\n'
    )
    done = banscan(tmp_path, model_file, "--seed", 9)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["settings"]["seed"], report["settings"]["steps"], report["verdict"]["outcome"]) == (9, 2, "not scanned")


@pytest.mark.slow
def test_the_doctor(tmp_path: Path) -> None:
    well = banscan(tmp_path, "doctor", "--json")
    found = json.loads(well.stdout)
    assert (well.returncode, well.stderr, found["works"]) == (0, "", True)
    told = {check["name"]: check for check in found["checks"]}
    assert {"packages", "processor", "memory", "device cpu", "temporary files", "reading"} <= told.keys()
    assert "not triton: " in told["device cpu"]["found"] or "TRITON_INTERPRET" in os.environ
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_commands_that_can_do_without_broken_settings(tmp_path: Path) -> None:
    report = ROOT / "tests" / "golden" / "backdoored.json"
    (tmp_path / "banscan.toml").write_text("sede = 1\n")
    done = banscan(tmp_path, "render", report, "-q")
    assert done.stderr == "banscan.toml: unknown setting 'sede'; did you mean seed?; render goes on without it\n"
    assert (done.returncode, "Backdoored" in done.stdout) == (1, True)
    ill = banscan(tmp_path, "doctor", "--json")
    found = json.loads(ill.stdout)
    assert (ill.returncode, ill.stderr, found["works"]) == (2, "", False)
    assert [check["found"] for check in found["checks"] if check["wrong"]] == ["banscan.toml: unknown setting 'sede'; did you mean seed?"]
    (tmp_path / "banscan.toml").write_text("exit-zero = true\n")
    assert banscan(tmp_path, "render", report, "-q").returncode == 0
    assert banscan(tmp_path, "doctor").returncode == 0


@pytest.mark.slow
def test_the_doctor_says_what_is_wrong(tmp_path: Path) -> None:
    """A package that is missing, and one that cannot be loaded, cost no other check."""
    code = "import sys\nsys.modules['onnx'] = None\nfrom importlib import metadata\nknown = metadata.version\n"
    code += "def version(name):\n    if name == 'scipy':\n        raise metadata.PackageNotFoundError(name)\n    return known(name)\n"
    code += "metadata.version = version\n"
    ill = banscan(tmp_path, "doctor", code=code)
    assert ill.returncode == 2
    assert "not installed: scipy" in ill.stdout
    assert "To do, where it matters: pip install scipy" in ill.stdout
    assert re.search(r"reading +could not be looked at \(import of onnx halted", ill.stdout)
    assert "processor" in ill.stdout
    assert ill.stdout.splitlines()[-1] == "Scans cannot run here."
