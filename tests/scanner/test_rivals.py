"""A scan under each of the preprocessings that the images leave open, and one verdict on all."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from banscan import Options, Report, Settings, dry_run, importers, scan
from banscan.scanner import rivals
from banscan.scanner import scan as module
from banscan.scanner.findings import Rival, Verdict
from banscan.scanner.inputs import trial
from banscan.scanner.inputs.preprocess import CANDIDATES, answers
from banscan.scanner.inputs.support import Seen
from banscan.scanner.machine.forecast import Forecast
from banscan.scanner.report import formats, json
from banscan.scanner.report.html.page import to_html
from banscan.scanner.report.json import read_file
from banscan.scanner.report.markdown import to_markdown
from banscan.scanner.report.results import results, settled
from banscan.scanner.report.words import facts
from banscan.scanner.verdict import inconclusive
from tests.conftest import ROOT

FAST = Settings(effort="quick", restarts=1)


class Shifted(nn.Module):
    """A net for pixels scaled by the mean and deviation of some data set, which those of others are near; `undecided` leaves them open."""

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
def undecided() -> Iterator[None]:
    """No preprocessing is likely enough by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "SURE", 2.0)
        patch.setattr(trial, "SURER", 2.0)
        yield


@pytest.fixture(scope="module")
def report(model: Path, flat: Path, undecided: None) -> Report:
    return scan(model, flat, settings=FAST, options=Options(device="cpu"))


@pytest.mark.slow
def test_each_has_a_scan_of_its_own(report: Report, model: Path, flat: Path, schema: Callable[[Any], None]) -> None:
    assert report.preprocess is not None
    assert report.preprocess.preprocess is None
    names = report.preprocess.rivals
    assert names[0] == report.preprocess.table[0].name
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


def test_what_cannot_settle_the_verdict_is_not_scanned(model: Path, flat: Path, undecided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = module.examine, []

    def examined(*args: Any, options: Options, **how: Any) -> module.Examined:
        found = whole(*args, options=options, **(how | {"dry": True}))
        if options.preprocess == "auto":
            tried = found.report.preprocess
            assert tried is not None
            return replace(found, report=replace(found.report, preprocess=replace(tried, rivals=("unit", "imagenet", "cifar10"))))
        asked.append(options.preprocess)
        outcome = ("fragile", "no backdoor found")[len(asked) - 1]
        return replace(found, report=replace(found.report, verdict=Verdict(outcome=outcome, reason="so")))

    monkeypatch.setattr(module, "examine", examined)
    report = scan(model, flat, settings=FAST, options=Options(device="cpu"))
    one, other, *rest = report.rivals
    assert asked == [one.preprocess, other.preprocess] == ["unit", "imagenet"]
    assert one.shown
    assert rest
    assert {(r.outcome, r.seconds) for r in rest} == {("not scanned", 0)}
    assert report.verdict.outcome == "inconclusive"
    assert f"under {rest[0].preprocess}: not scanned (those before it contradict one another)" in report.verdict.reason
    for told in (to_markdown((report,)), to_html(report)):
        assert "not scanned" in told
    assert json.read(json.render(report)).rivals[-1].outcome == "not scanned"


@pytest.mark.slow
def test_every_report_shows_them(report: Report) -> None:
    stream = io.StringIO()
    formats.named("terminal").scan(report, stream)
    for text in (stream.getvalue(), to_markdown((report,)), to_html(report)):
        assert "Under each preprocessing that the images leave open" in text
        assert all(r.preprocess in text and r.outcome in text for r in report.rivals)
    assert replace(json.read(json.render(report)), evidence=None).rivals[0].preprocess == report.rivals[0].preprocess


@pytest.mark.slow
def test_a_dry_run_tells_that_there_will_be_several(model: Path, flat: Path, undecided: None) -> None:
    told = dry_run(model, flat, settings=FAST, options=Options(device="cpu"))
    assert told.verdict.outcome == "not scanned"
    assert len(told.rivals) >= 2
    assert "is the right preprocessing" in told.verdict.reason


def test_one_stands_for_those_that_predict_the_same() -> None:
    ways = [torch.eye(5)[torch.randint(0, 5, (50,), generator=torch.Generator().manual_seed(i))] for i in range(4)]
    a, b, c, d = (Seen(name, logits, None) for name, logits in zip("abcd", ways, strict=True))
    same = replace(a, name="same")
    assert trial._unlike((a, same, b), 0.9) == [[a, same], [b]]
    assert trial._unlike((a, b, c, d), 0.9) == [[a], [b], [c], [d]]


def test_what_is_told_of_rivals_goes_with_what_is_left(model: Path, patterns: tuple[np.ndarray, np.ndarray], undecided: None) -> None:
    with pytest.raises(trial.UndecidedError) as told:
        trial.choose(importers.load(model), patterns[0], None)
    left, table = told.value.tried.rivals, told.value.tried.table
    assert left[0] == table[0].name
    assert all(f"{name} (" in str(told.value) for name in left)
    known = [s.chance for s in table if s.chance is not None]
    assert sum(known) == pytest.approx(1)
    assert known == sorted(known, reverse=True)


def test_with_labels_where_many_are_left_none_has_a_scan(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three that the model answers otherwise under is right about a third of the images."""
    images = np.random.default_rng(1).integers(0, 256, (100, 16, 16, 3)).astype(np.uint8)
    model = importers.load(model_file)
    monkeypatch.setattr(trial, "MOST", 1)
    each = [answers(model, c, images).argmax(1) for c in CANDIDATES if c.name in ("signed", "unit", "raw")]
    labels = torch.stack([each[i % 3][i] for i in range(100)])
    with pytest.raises(trial.UndecidedError, match=r"the preprocessings \S+ and \d more equally well") as told:
        trial.choose(model, images, labels)
    assert told.value.tried.rivals == ()


def test_most_images_of_one_class_are_asked_about() -> None:
    report = replace(read_file(ROOT / "tests" / "golden" / "clean.json"), accuracy=None)
    assert "made for" not in dict(facts(report))["confidence"]
    odd = replace(report, reach=(replace(report.reach[0], clean=0.74), *report.reach[1:]))
    told = dict(facts(odd))["confidence"]
    assert told.endswith(f"; 74% of them are answered with class {odd.reach[0].target}: are they what the model was made for?")


def test_each_tells_whose_turn_it_is() -> None:
    told: list[str] = []
    with rivals.turn(lambda stage, done, total: told.append(stage), "under unit, 1 of 2", last=False) as progress:
        progress("noise", 0, 1)
    forecast = Forecast(lambda stage, done, total: told.append(stage))
    with rivals.turn(forecast, "under raw, 2 of 2", last=True) as progress:
        assert progress is forecast
        progress("noise", 0, 1)
    forecast("noise", 1, 1)
    assert told == ["under unit, 1 of 2: noise", "under raw, 2 of 2: noise", "noise"]


def shown(outcome: str, *, shown: bool) -> Rival:
    return Rival(
        preprocess="raw", outcome=outcome, reason="seen", targets=(5,), mapping=(), criterion="patch", score=1.2, seconds=1.0, shown=shown
    )


def test_a_baseline_accepts_what_was_found_under_all_of_them() -> None:
    report = read_file(ROOT / "tests" / "golden" / "backdoored.json")
    known = {r.fingerprint for r in results(report)}
    assert settled(replace(report, accepted=tuple(known)))
    both = replace(report, rivals=(shown("backdoored", shown=True), shown("backdoored", shown=False)), accepted=tuple(known))
    (new,) = [r for r in results(both) if r.fingerprint not in known]
    assert (new.rule, new.sentence, new.accepted) == ("patch", "under raw: seen", False)
    assert not settled(both)
    assert settled(replace(both, accepted=(*known, new.fingerprint)))
    # where the verdict differs, what one of them found is a warning
    mixed = replace(both, verdict=inconclusive("it depends"), accepted=())
    assert [r.level for r in results(mixed) if r.sentence == "under raw: seen"] == ["warning"]
