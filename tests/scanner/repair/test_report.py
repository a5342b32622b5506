"""What is said of a repair, from the verdicts before and after."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from banscan.scanner.findings import ONE, Verdict
from banscan.scanner.repair.repair import repair
from banscan.scanner.repair.settings import RepairSettings
from banscan.scanner.report import json as machine
from banscan.scanner.report import repaired
from banscan.scanner.settings import Settings
from tests.conftest import learn
from tests.importers.onnx.test_reader import Tokens


def called(outcome: str, *targets: int) -> Verdict:
    return Verdict(outcome=outcome, reason="", kind=ONE if targets else None, targets=targets)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (("backdoored", 14), ("no backdoor found",), "Repaired"),
        (("backdoored", 14), ("backdoored", 14), "Not repaired"),
        (("suspicious", 14), ("backdoored", 39), "class 39 now looks backdoored"),
        (("backdoored", 14), ("suspicious", 14), "Not fully repaired"),
        (("no backdoor found",), ("no backdoor found",), "as before"),
        (("backdoored", 14), ("inconclusive",), "inconclusive"),
    ],
)
def test_headline(before: tuple[Any, ...], after: tuple[Any, ...], said: str) -> None:
    """A second scan that finds another class does not say that the repair failed."""
    assert said in repaired._headline("fixed.onnx", called(*before), called(*after))


def test_one_of_several_targets_that_is_left_is_no_other_finding() -> None:
    several, one = called("backdoored", 3, 7, 1), called("backdoored", 7)
    assert "Not repaired" in repaired._headline("fixed.onnx", several, one)
    assert str(repaired._outcome(several)) == "backdoored, classes 3, 7, 1"
    assert str(repaired._outcome(one)) == "backdoored, class 7"
    assert str(repaired._outcome(called("no backdoor found"))) == "no backdoor found"


@pytest.mark.slow
def test_a_network_with_attention_is_not_called_repaired_without_a_caveat(
    patterns: tuple[np.ndarray, np.ndarray], image_dir: Path, tmp_path: Path, export: Callable[..., Path]
) -> None:
    torch.manual_seed(0)
    path = export("attending", learn(Tokens(), patterns, lr=0.01, steps=80))
    tuning = RepairSettings(epochs=1, max_accuracy_drop=1.0, force=True)
    settings = Settings(restarts=1, steps=2, pixels=False, controls=False)
    result = repair(path, image_dir, tmp_path / "fixed.onnx", tuning=tuning, settings=settings)
    console = Console(record=True, width=200, file=StringIO())
    repaired.show(result, console)
    assert "networks with attention do not hold" in console.export_text()
    assert "attention" in json.loads(machine.render_repair(result))["caveat"]
