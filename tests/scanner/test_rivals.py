"""A scan under each of the preprocessings that the images support equally well, and one verdict on all."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from banscan import Options, Report, Settings, dry_run, importers, scan
from banscan.scanner.inputs import trial
from banscan.scanner.inputs.support import Seen
from banscan.scanner.report import formats, json
from banscan.scanner.report.html.page import to_html
from banscan.scanner.report.markdown import to_markdown

FAST = Settings(effort="quick", restarts=1)


class Shifted(nn.Module):
    """A net for pixels scaled by the mean and deviation of some data set, which those of others are near."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x * 0.27 + 0.4)


@pytest.fixture(scope="module")
def model(export: Callable[..., Path], trained: nn.Module) -> Path:
    return export("shifted", Shifted(trained))


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory, patterns: tuple[np.ndarray, np.ndarray]) -> Path:
    """The patterns without labels."""
    folder = tmp_path_factory.mktemp("flat")
    for i, image in enumerate(patterns[0]):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def report(model: Path, flat: Path) -> Report:
    return scan(model, flat, settings=FAST, options=Options(device="cpu"))


@pytest.mark.slow
def test_each_has_a_scan_of_its_own(report: Report, model: Path, flat: Path, schema: Callable[[Any], None]) -> None:
    assert report.preprocess is not None
    assert report.preprocess.preprocess is None
    names = report.preprocess.rivals
    assert "imagenet" in names
    assert 2 <= len(names) <= trial.MOST
    assert [r.preprocess for r in report.rivals] == list(names)
    assert sum(r.shown for r in report.rivals) == 1
    for rival in report.rivals:
        alone = scan(model, flat, settings=FAST, options=Options(device="cpu", preprocess=rival.preprocess))
        verdict = alone.verdict
        assert (rival.outcome, rival.reason, rival.targets, rival.score) == (
            verdict.outcome,
            verdict.reason,
            verdict.targets,
            verdict.score,
        )
        if rival.shown:
            assert [f.value for f in report.findings] == [f.value for f in alone.findings]
    outcomes = {r.outcome for r in report.rivals}
    assert report.verdict.outcome == (outcomes.pop() if len(outcomes) == 1 else "inconclusive")
    assert sum(report.seconds.values()) > sum(r.seconds for r in report.rivals)
    schema(report.to_dict())


@pytest.mark.slow
def test_every_report_shows_them(report: Report) -> None:
    stream = io.StringIO()
    formats.named("terminal").scan(report, stream)
    for text in (stream.getvalue(), to_markdown((report,)), to_html(report)):
        assert "Under each preprocessing that the images leave open" in text
        assert all(r.preprocess in text and r.outcome in text for r in report.rivals)
    assert replace(json.read(json.render(report)), evidence=None).rivals[0].preprocess == report.rivals[0].preprocess


@pytest.mark.slow
def test_a_dry_run_tells_that_there_will_be_several(model: Path, flat: Path) -> None:
    told = dry_run(model, flat, settings=FAST, options=Options(device="cpu"))
    assert told.verdict.outcome == "not scanned"
    assert len(told.rivals) >= 2
    assert "is the right preprocessing" in told.verdict.reason


def test_one_stands_for_those_that_predict_the_same() -> None:
    """And where more are left than are worth a scan each, none has one."""
    ways = [torch.eye(5)[torch.randint(0, 5, (50,), generator=torch.Generator().manual_seed(i))] for i in range(4)]
    a, b, c, d = (Seen(name, logits, None) for name, logits in zip("abcd", ways, strict=True))
    assert trial._unlike((a, replace(a, name="same"), b)) == ("a", "b")
    assert trial._unlike((a, b, c)) == ("a", "b", "c")
    assert trial._unlike((a, b, c, d)) == ()


def test_what_is_told_of_rivals_goes_with_what_is_left(model: Path, patterns: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(trial.UndecidedError) as told:
        trial.choose(importers.load(model), patterns[0], None)
    left = told.value.tried.rivals
    assert left[0] == told.value.tried.table[0].name
    assert all(f"{name} " in str(told.value) for name in left[:2])
