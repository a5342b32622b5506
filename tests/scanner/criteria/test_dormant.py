"""What is made of a forcing: when it counts, and what verdict it leads to."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from banscan import importers
from banscan.scanner.criteria.dormant import DORMANT
from banscan.scanner.criteria.registry import CRITERIA
from banscan.scanner.findings import Finding
from banscan.scanner.inputs import images
from banscan.scanner.levels import Levels
from banscan.scanner.search.dormant import Led, Searched, search
from banscan.scanner.settings import Options
from banscan.scanner.verdict import decide
from bench.dormant import path
from tests.scanner.measured import clean, findings, judge, neurons, pixels

EXAMPLES = Path(__file__).parents[3] / "examples"
LED = Led(
    layer="relu_4",
    neurons=(3,),
    channels=16,
    everywhere=False,
    target=7,
    hits=60,
    images=60,
    push=90.0,
    living=(0.5, 1.0, 0.8),
    most=0.03,
    p_value=1e-6,
)
FOUND = Searched(neurons=500, layers=10, dormant=4, tried=4, alone=0, forcings=20, led=LED)


def one(searched: Searched, levels: Levels | None = None) -> Finding:
    """What the criterion finds."""
    return next(f for f in findings(neurons(clean(), dormant=searched), pixels(), levels or Levels()) if f.criterion == "dormant")


def test_a_switch_is_called_a_backdoor() -> None:
    result = judge(neurons(clean(), dormant=FOUND), pixels())
    assert (result.outcome, result.kind, result.target, result.criterion) == ("backdoored", "all-to-one", 7, "dormant")
    for part in ("neuron 3 of layer relu_4", "16 neurons", "100% of the images to class 7", "at one place", "at most 3%", "90 times"):
        assert part in result.reason
    assert result.score == one(FOUND).score > 1


@pytest.mark.parametrize("change", [{"hits": 25}, {"p_value": 0.01}, {"hits": 36}, {"living": (), "p_value": 1.0}])
def test_fewer_images_or_living_neurons_that_do_as_much_do_not_count(change: dict[str, object]) -> None:
    """Neither half of the images alone, nor a push that chance explains."""
    found = one(replace(FOUND, led=replace(LED, **change)))
    assert not found.exceeds
    assert not found.suspects
    assert judge(neurons(clean(), dormant=replace(FOUND, led=replace(LED, **change))), pixels()).outcome == "no backdoor found"


def test_it_changes_nothing_for_the_others() -> None:
    """Neither their thresholds nor the score of a model that it does not call backdoored."""
    calm = judge(neurons(clean()), pixels())
    weak = judge(neurons(clean(), dormant=replace(FOUND, led=replace(LED, p_value=0.9))), pixels())
    assert calm == weak
    by_name = {f.criterion: f for f in findings(neurons(clean()), pixels(), Levels())}
    assert by_name["noise"].limit == pytest.approx(4.77, abs=0.01)


def test_models_of_any_kind_with_any_number_of_classes() -> None:
    """It needs no other classes and no clean models; where it finds nothing it clears none."""
    few = {c.name: "2 classes are too few" for c in CRITERIA if not c.own_null}
    for levels in (Levels(), Levels(uncovered="it has 2 classes"), Levels(calibrated=0.4)):
        rest = [c.finding(levels, not_done=few[c.name]) for c in CRITERIA if c is not DORMANT]
        found, calm = (decide([*rest, one(s, levels)], levels) for s in (FOUND, replace(FOUND, led=None)))
        assert (found.outcome, found.target) == ("backdoored", 7)
        assert calm.outcome == "inconclusive"
        assert "too few" in calm.reason
    uncovered = Levels(uncovered="it has 1000 classes")
    assert decide(findings(neurons(clean(), dormant=FOUND), pixels(), uncovered), uncovered).outcome == "backdoored"
    assert decide(findings(neurons(clean()), pixels(), uncovered), uncovered).outcome == "inconclusive"


def test_a_calibration_may_raise_its_limit_only() -> None:
    score = one(FOUND).score
    assert one(FOUND, Levels(calibrated=0.2)).limit == 0.5
    assert one(FOUND, Levels(calibrated=score - 0.01)).exceeds
    assert not one(FOUND, Levels(calibrated=score + 0.01)).exceeds


def test_what_was_left_out_is_said() -> None:
    many = Searched(neurons=9000, layers=50, dormant=5000, tried=300, alone=0, forcings=900)
    result = judge(neurons(clean(), dormant=many), pixels())
    assert any("4700 of the 5000 neurons" in gap for gap in result.gaps)
    assert "of 9000 neurons clean images leave 5000 switched off; 300 of these were forced" in one(many).sentence
    assert one(Searched(neurons=9, layers=1, dormant=0, tried=0, alone=0, forcings=0)).partly is None


@pytest.mark.slow
@pytest.mark.parametrize("switch", [False, True])
def test_the_example_with_and_without_a_switch(tmp_path: Path, switch: bool) -> None:
    file = EXAMPLES / "clean.onnx"
    if switch:
        file = tmp_path / "switch.onnx"
        path.write(EXAMPLES / "clean.onnx", file, gain=8.0)
    model = importers.load(file)
    given = images.load(EXAMPLES / "clean", model.input, model.classes, Options())
    x = torch.from_numpy(given.images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = one(search(model, x, model.logits(x)))
    assert found.exceeds == switch
    assert found.classes == ((path.TARGET,) if switch else ())
