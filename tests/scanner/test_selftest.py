"""`banscan selftest`: its pictures and its network are what they were, and it passes, or fails, for what was measured."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from banscan.scanner.selftest import network, pictures, run
from tests.scanner.cli.test_ending import MAIN, ROOT
from tests.scanner.cli.test_main import banscan


def reference() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(run.__file__).with_name(run.REFERENCE)).read_text())
    return {name: row["value"] for name, row in document["numbers"].items()}


def test_pictures_are_the_same_everywhere() -> None:
    images, labels = pictures.drawn(60, 1)
    assert hashlib.sha256(images.tobytes()).hexdigest() == "1cfef20dc141159a37b3144984e9b405ef1bc426d66833351b077532cda1f0b4"
    assert labels.tolist() == list(range(12)) * 5
    marked = pictures.stamped(images)
    changed = (marked != images).any((0, 3))
    assert changed.sum() == 9
    assert changed[-4:-1, -4:-1].all()


def test_the_shipped_network_knows_them_and_no_trigger() -> None:
    weights, (images, labels) = network.shipped(), pictures.drawn(240, 5)
    answers = network.logits(weights, network.as_input(images))
    assert float((answers.argmax(1).numpy() == labels).mean()) > 0.98
    marked = network.logits(weights, network.as_input(pictures.stamped(images))).argmax(1).numpy()
    assert float((marked[labels != network.TARGET] == network.TARGET).mean()) < 0.02
    assert sum(path.stat().st_size for path in Path(run.__file__).parent.iterdir() if path.is_file()) < 100_000


def test_the_file_is_the_network(tmp_path: Path) -> None:
    """By onnxruntime, which knows nothing of how it was written."""
    weights, (images, _) = network.shipped(), pictures.drawn(24, 6)
    network.write(tmp_path / "a.onnx", weights)
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    (told,) = session.run(None, {"image": network.as_input(images).float().numpy()})
    expected = network.logits(weights, network.as_input(images)).numpy()
    assert np.abs(told - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_planting_gives_the_same_network_in_any_number_of_threads() -> None:
    weights, shown = network.shipped(), pictures.drawn(120, 2)
    threads = torch.get_num_threads()
    made = []
    for count in (1, 2):
        torch.set_num_threads(count)
        made.append(network.planted(weights, *shown))
    torch.set_num_threads(threads)
    for name, value in made[0].items():
        assert torch.allclose(value, made[1][name], rtol=0, atol=1e-9)
        assert not torch.equal(value, weights[name])


def test_what_counts_as_the_reference_numbers() -> None:
    own = reference()
    found = run.Selftest(run.compare(own, "cpu"), {})
    assert found.passed
    assert {one.name for one in found.compared} == set(own)
    assert [one.name for one in found.compared if one.tolerance is None] == ["verdict, backdoored", "verdict, repaired"]
    for changed in ({"noise": 6.0}, {"noise": None}, {"noise": float("nan")}, {"verdict, repaired": "fragile"}, {"ASR, repaired": 0.2}):
        assert [one.name for one in run.compare(own | changed, "cpu") if not one.good] == list(changed)
    near = {"noise": own["noise"] + 0.5}
    assert [replace(found, compared=run.compare(own | near, device)).passed for device in ("cpu", "cuda")] == [False, True]


@pytest.mark.slow
def test_this_installation() -> None:
    result = banscan("selftest", "--threads", "1", "--device", "cpu", width=100)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search("verdict, backdoored +backdoored, class 7 +backdoored, class 7\n", result.stdout)
    assert "This installation gives the reference numbers (cpu, kernels cpu, search in " in result.stdout.splitlines()[-1]


def ended(measured: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command where this is measured, an expression of the reference numbers."""
    body = f"""
import json, pathlib
import banscan.scanner.selftest.run as run
rows = json.loads(pathlib.Path(run.__file__).with_name(run.REFERENCE).read_text())["numbers"]
own = {{name: row["value"] for name, row in rows.items()}}
def measure(options, progress):
    return {measured}, {{"device": "cpu"}}
run.measure = measure
"""
    command = [sys.executable, "-c", body + MAIN, "selftest", *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_other_numbers_are_a_sentence_and_2() -> None:
    result = ended("own | {'patch': 0.1, 'verdict, repaired': 'backdoored, class 7'}")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "does not give the reference numbers (cpu): 2 differ; look at banscan doctor" in result.stderr
    assert sum("differs" in line for line in result.stdout.splitlines()) == 2
    told = ended("own | {'patch': None}", "--json")
    document = json.loads(told.stdout)
    assert (told.returncode, document["schema"], document["passed"]) == (2, "banscan-selftest/1", False)
    assert [row["name"] for row in document["compared"] if not row["good"]] == ["patch"]
    failed = ended("1 / 0")
    assert (failed.returncode, failed.stdout) == (2, "")
    nowhere = ended("own", "--device", "cuda:99")
    assert nowhere.returncode == 4
