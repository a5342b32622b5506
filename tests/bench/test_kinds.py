"""The tables by kind of attack, and MM-BD's own rule, on made-up rows."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from banscan.scanner.report.json import read, to_dict
from bench import kinds, mmbd
from tests.golden.pages import FOLDER


def _row(name: str, attack: str, target: int | None, asr: float | None, report: str) -> dict[str, Any]:
    """A row as a scan of one of the examples leaves it."""
    document = to_dict(read((FOLDER / f"{report}.json").read_text()))
    about = {"name": name, "attack": attack, "target": target, "asr": asr, "model_accuracy": 0.95, "seconds": 10.0}
    return {**about, **{key: document[key] for key in ("findings", "verdict", "settings", "environment")}}


ROWS = [
    _row("gtsrb-resnet18w16-sig-33-s1", "sig", 33, 0.99, "backdoored"),
    _row("gtsrb-vgg16w16-blur-5-s2", "blur", 5, 0.99, "clean"),
    _row("gtsrb-vgg16w16-tact-5-s3", "tact", 5, 0.5, "clean"),
    _row("gtsrb-vgg16w16-none-s4", "none", None, None, "clean"),
]


def test_kinds_by_architectures() -> None:
    lines = kinds.page(ROWS)
    assert "| kind | resnet18w16 | vgg16w16 | all |" in lines
    assert any(line.startswith("| global | 1 of 1 | 0 of 1 | 1 of 2") for line in lines)
    assert any(line.startswith("| clean, called backdoored | – | 0 of 1 | 0 of 1") for line in lines)
    assert any("gtsrb-vgg16w16-tact-5-s3 (ASR 0.50: no backdoor found)" in line for line in lines)
    assert "| perturbation | 1 (1) | 0 |" in lines
    assert not any(line.startswith("| source-specific") for line in lines), "an attack that does not work counts nowhere"


def test_no_rows_yet() -> None:
    assert kinds.page([]) == ["No model was scanned yet."]


@pytest.mark.parametrize("classes", [10, 43])
def test_mmbd_calls_what_the_others_do_not_explain(classes: int) -> None:
    others = stats.gamma.rvs(20, scale=5, size=classes, random_state=0)
    lead, p = mmbd.judged(others)
    assert p > mmbd.LEVEL
    raised = np.where(np.arange(classes) == 3, 400.0, others)
    lead, p = mmbd.judged(raised)
    assert (lead, p < mmbd.LEVEL) == (3, True)


def test_mmbd_reads_the_margins_of_rows() -> None:
    values = mmbd.margins(ROWS[0])
    assert values is not None
    assert (len(values), int(values.argmax())) == (43, 33)
    page = mmbd.page({"held": ROWS, "tune": []})
    assert any(line.startswith("| 43 | 1 of 2") for line in page)
