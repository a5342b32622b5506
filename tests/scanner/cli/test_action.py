"""The action for GitHub: what it declares, and its steps in bash with the variables that a runner sets."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.zoo.logic import written
from tests.importers.equivalent.network import graph
from tests.importers.structure.files import TARGET, images, saved

ROOT = Path(__file__).parents[3]
QUICK = "--preprocess unit --restarts 1 --steps 1 --no-pixels --threads 1"
# what stands for python3: an environment as pip would leave it, and pip that writes down what it is asked for
PYTHON = """#!/bin/bash
if [ "$1" != -m ]; then exec {python} "$@"; fi
mkdir -p "$3/bin"
printf '#!/bin/bash\\nprintf "%%s\\\\n" "$@" >> {asked}\\n' > "$3/bin/pip"
printf '#!/bin/bash\\nexec {python} "$@"\\n' > "$3/bin/python"
printf '#!/bin/bash\\nexec {python} -m banscan "$@"\\n' > "$3/bin/banscan"
chmod +x "$3"/bin/*
"""


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    declared: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return declared


@dataclass
class Runner:
    """A runner's folder, and what the steps have said so far."""

    folder: Path
    action: dict[str, Any]

    def run(self, **inputs: str) -> tuple[int, dict[str, str], str]:
        """All steps with these inputs: the exit code of the last, the outputs, and what it printed."""
        known = {name: declared.get("default", "") for name, declared in self.action["inputs"].items()} | inputs
        outputs: dict[str, str] = {}
        for step in self.action["runs"]["steps"]:
            own = {name: self.filled(text, known, outputs) for name, text in step["env"].items()}
            (self.folder / "output").write_text("")
            environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.variables(), **own}
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
            lines = (self.folder / "output").read_text().splitlines()
            outputs |= {f"{step['id']}.{name}": value for name, _, value in (line.partition("=") for line in lines)}
            if done.returncode:
                break
        named = {name: self.filled(said["value"], known, outputs) for name, said in self.action["outputs"].items()}
        return done.returncode, named, done.stdout + done.stderr

    def variables(self) -> dict[str, str]:
        """What a runner sets."""
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_ACTION_REPOSITORY": "owner/banscan",
        }

    @staticmethod
    def filled(text: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
        """A text with its expressions put in."""
        text = re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], text)
        return re.sub(r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", lambda found: outputs.get(f"{found[1]}.{found[2]}", ""), text)


@pytest.fixture
def runner(action: dict[str, Any], tmp_path: Path) -> Runner:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    for name in ("bin", "temp"):
        (tmp_path / name).mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text(PYTHON.format(python=sys.executable, asked=tmp_path / "asked"))
    python.chmod(0o755)
    place = tmp_path / "clean images"
    place.mkdir()
    for k, image in enumerate(images(60)):
        Image.fromarray(np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)).save(place / f"{k}.png")
    return Runner(tmp_path, action)


def test_declaration(action: dict[str, Any]) -> None:
    assert action["runs"]["using"] == "composite"
    assert {"name", "description"} <= action.keys()
    assert set(action["inputs"]) == {"model", "clean-dir", "args", "version"}
    assert [name for name, said in action["inputs"].items() if said.get("required")] == ["model", "clean-dir"]
    assert set(action["outputs"]) == {"verdict", "report", "sarif"}
    assert all(said["description"] for said in (*action["inputs"].values(), *action["outputs"].values()))
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "an input would be run as a part of the script"
        assert "upload" not in step["run"]


def test_what_is_installed(runner: Runner) -> None:
    asked = runner.folder / "asked"
    for inputs, expected in (
        ({"model": "m.onnx"}, f"banscan @ file://{ROOT}"),
        ({"model": "hf://o/n", "version": "v1"}, "banscan[hf] @ git+https://github.com/owner/banscan@v1"),
        ({"model": "models:/n/1"}, f"banscan[mlflow] @ file://{ROOT}"),
    ):
        asked.write_text("")
        steps = runner.action["runs"]["steps"]
        Runner(runner.folder, {**runner.action, "runs": {"steps": steps[:1]}}).run(**{"clean-dir": "x", **inputs})
        assert asked.read_text().splitlines()[-1] == expected


@pytest.mark.slow
def test_a_backdoored_model_fails_the_job(runner: Runner) -> None:
    """With a name of a folder that has a space, and options that are quoted."""
    saved(written(graph(), "where", TARGET), runner.folder / "logic.onnx")
    code, outputs, said = runner.run(model="logic.onnx", args=f"{QUICK} --device 'cpu'", **{"clean-dir": "clean images"})
    assert (code, outputs["verdict"]) == (1, "backdoored"), said
    assert json.loads(Path(outputs["report"]).read_text())["verdict"]["outcome"] == "backdoored"
    findings = json.loads(Path(outputs["sarif"]).read_text())
    assert findings["runs"][0]["artifacts"][0]["location"]["uri"] == "logic.onnx"
    assert "Backdoored" in (runner.folder / "summary").read_text()


@pytest.mark.slow
def test_a_dry_run_passes(runner: Runner) -> None:
    saved(graph(), runner.folder / "plain.onnx")
    code, outputs, said = runner.run(model="plain.onnx", args=f"{QUICK} --dry-run", **{"clean-dir": "clean images"})
    assert (code, outputs["verdict"]) == (0, "not scanned"), said


@pytest.mark.slow
@pytest.mark.slow
def test_a_model_that_failed_is_no_clean_one(runner: Runner, model_file: Path) -> None:
    """Among several; and a name that looks like an option is the name of a file that is not there."""
    models = runner.folder / "models"
    models.mkdir()
    shutil.copy(model_file, models / "a.onnx")
    (models / "b.onnx").write_text("no model")
    code, outputs, _ = runner.run(model="models", **{"clean-dir": "clean images", "args": f"{QUICK} --results 'kept here'"})
    assert code in (2, 3)
    assert outputs["verdict"] in ("failed", "inconclusive", "suspicious")
    assert (runner.folder / "kept here").is_dir()
    code, outputs, said = runner.run(model="--config=evil.toml", **{"clean-dir": "clean images"})
    assert (code, outputs["verdict"]) == (4, "failed")
    assert "--config=evil.toml: no such file" in said


def test_inputs_are_never_run(runner: Runner) -> None:
    """And what is no model has no report."""
    harm = "$(touch harmed)`touch harmed`; touch harmed #"
    code, outputs, said = runner.run(model=f"{harm}.onnx", args=harm.replace("`", ""), **{"clean-dir": harm})
    assert code == 4, said
    assert outputs == {"verdict": "failed", "report": "", "sarif": ""}
    assert not (runner.folder / "harmed").exists()
    code, _, said = runner.run(model="m.onnx", args="--device 'cpu", **{"clean-dir": "x"})
    assert (code, "quoted in pairs" in said) == (4, True)
