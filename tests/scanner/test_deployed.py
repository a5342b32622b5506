"""The file as it would be deployed, beside the file as it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from banscan.scanner.deployed import joined
from banscan.scanner.findings import Deployed, Peak, Report
from banscan.scanner.report.json import read
from banscan.scanner.verdict import inconclusive
from tests.golden.pages import FOLDER
from tests.scanner.cli.test_main import banscan
from tests.scanner.report.test_reports import printed

CLEAN, BACKDOORED = (read((FOLDER / f"{name}.json").read_text()) for name in ("clean", "backdoored"))


def found(report: Report) -> Deployed:
    own = report.verdict
    return Deployed(
        kind="int8",
        precision="8 bits",
        agreement=0.98,
        gains=Peak(3, 0.015),
        outcome=own.outcome,
        reason=own.reason,
        targets=own.targets,
        score=own.score,
    )


def test_the_worse_of_two_verdicts() -> None:
    both = joined(CLEAN, BACKDOORED, found(CLEAN))
    assert both.verdict.outcome == "backdoored"
    assert both.verdict.reason == f"only as int8: {BACKDOORED.verdict.reason}"
    assert both.verdict.targets == BACKDOORED.verdict.targets
    hidden = joined(BACKDOORED, CLEAN, found(BACKDOORED))
    assert hidden.verdict.outcome == "backdoored"
    assert hidden.verdict.reason.startswith("as it is in the file: ")
    assert hidden.findings == CLEAN.findings
    assert joined(CLEAN, CLEAN, found(CLEAN)).verdict == CLEAN.verdict
    unknown = replace(CLEAN, verdict=inconclusive("too few images"))
    assert joined(unknown, CLEAN, found(unknown)).verdict.outcome == "inconclusive"


def test_the_report_says_both() -> None:
    text = " ".join(printed(joined(CLEAN, BACKDOORED, found(CLEAN))).split())
    assert "98.0% of the clean images get the class that the file as it is gives them; 1.5% go to class 3" in text
    assert f"The file as it is: no backdoor found, score {CLEAN.verdict.score:.2f}" in text


@pytest.mark.slow
def test_on_the_command_line(model_file: Path, image_dir: Path) -> None:
    done = banscan(model_file, "--clean-dir", image_dir, "--as", "int8", "--no-pixels", "--format", "json")
    report = json.loads(done.stdout)
    assert report["deployed"]["kind"] == "int8"
    assert report["deployed"]["agreement"] > 0.8
    assert (report["model"]["precision"], report["model"]["path"]) == ("8 bits", str(model_file))
    assert done.returncode == {"backdoored": 1, "no backdoor found": 0}.get(report["verdict"]["outcome"], 2)
