"""What a scan reports when it cannot be finished."""

from pathlib import Path

import pytest
import torch

from banscan.errors import EvidenceError
from banscan.scanner import scan as scanning
from banscan.scanner.criteria import margin
from banscan.scanner.findings import Report
from banscan.scanner.report.json import read, render
from banscan.scanner.scan import scan
from banscan.scanner.settings import Options, Settings

pytestmark = pytest.mark.slow
QUICK = Settings(restarts=1, steps=2, controls=False)


def fails(*_: object, **__: object) -> None:
    raise EvidenceError("the numbers overflow")


def scanned(model_file: Path, image_dir: Path) -> Report:
    report = scan(model_file, image_dir, settings=QUICK, options=Options(preprocess="unit"))
    assert (report.verdict.outcome, report.verdict.score, report.standing) == ("inconclusive", None, None)
    assert read(render(report)).verdict.reason == report.verdict.reason
    return report


def test_a_criterion_that_fails_leaves_those_before_it(model_file: Path, image_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margin, "largest_margins", lambda *_, **__: torch.full((4, 10), torch.nan))
    report = scanned(model_file, image_dir)
    done = {f.criterion for f in report.findings if f.not_done is None}
    assert done == {"noise", "logit"}
    assert all("NaN" in str(f.not_done) for f in report.findings if f.criterion not in done)
    assert "NaN" in report.verdict.reason


def test_untargeted_noise_that_fails_leaves_every_finding(model_file: Path, image_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "untargeted", fails)
    report = scanned(model_file, image_dir)
    assert all(f.not_done is None for f in report.findings)
    assert report.aside is None
    assert report.reach
    assert all(row.untargeted is None for row in report.reach)
    assert report.verdict.reason == "the numbers overflow"


@pytest.mark.parametrize("error", [IndexError("index out of range in self"), RuntimeError("index 9 is out of bounds for dimension 0")])
def test_a_graph_that_fails_beside_the_clean_images(
    error: Exception, model_file: Path, image_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks something up by the pixels; nothing else that goes wrong is passed over so."""

    def beyond(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(scanning.looks, "search", beyond)
    assert "the graph fails on images that differ from the clean ones" in scanned(model_file, image_dir).verdict.reason
    monkeypatch.setattr(scanning.looks, "search", lambda *_, **__: [][0])
    with pytest.raises(IndexError, match="list index"):
        scan(model_file, image_dir, settings=QUICK, options=Options(preprocess="unit"))
