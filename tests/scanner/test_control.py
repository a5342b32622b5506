"""Controls made from the model itself: when one is made, what it says, and what the verdict and the command line make of it."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import fx

from banscan.errors import ModelError
from banscan.importers import TracedModel
from banscan.scanner import control, race, scratch, tuned
from banscan.scanner.criteria import patch, registry
from banscan.scanner.criteria.base import NotDone
from banscan.scanner.effort import FIRST_LOOK, WHOLE
from banscan.scanner.extent import Extent
from banscan.scanner.findings import ANEW, TUNED, Control, Finding, Kind
from banscan.scanner.levels import Levels
from banscan.scanner.machine.forecast import Forecast
from banscan.scanner.machine.progress import silent
from banscan.scanner.repair import patch_pool
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.search.transforms import Transformed
from banscan.scanner.settings import Settings
from banscan.scanner.subject import Subject
from banscan.scanner.verdict import decide
from tests.golden.pages import FOLDER, ROOT
from tests.scanner.measured import clean, findings, neurons, pixels

CLASSES, LIKE = 10, Kind(10, 32, attention=False)
IMAGES = 150
USUAL = Levels()
MOVED = "one perturbation moves 96% of the images there in the model,"


def fragile(levels: Levels = USUAL) -> tuple[Finding, ...]:
    """Findings on a model that one patch moves most images of, to class 3, and to others nearly as many."""
    shares = torch.linspace(0.1, 0.6, CLASSES).index_fill(0, torch.tensor(3), 0.85)
    seen = pixels(CLASSES, patched=shares, patch_images=130)
    found = findings(neurons(clean(CLASSES)), seen, levels)
    assert [f.criterion for f in found if f.exceeds] == ["patch share"]
    return found


def with_control(planted: bool, levels: Levels = USUAL) -> tuple[Finding, ...]:
    about = Control(before=0.85, after=0.1 if planted else 0.8, planted=planted, sentence="a copy shows what it shows")
    return tuple(replace(f, control=about) if f.criterion == "patch share" else f for f in fragile(levels))


def made_of(shares: list[float]) -> patch.Patched:
    moved = torch.tensor(shares)
    return patch.reached(moved, moved, 50)


def network(layers: int = 20, channels: int = 3, groups: int = 1) -> SimpleNamespace:
    """What is asked of a model before a control is made."""
    graph = fx.Graph()
    x, weight = graph.placeholder("x"), graph.placeholder("weight")
    for own in (1, groups):
        graph.call_function(torch.ops.aten.conv2d.default, (x, weight, None, [1, 1], [0, 0], [1, 1], own))
    graph.call_function(torch.ops.aten.conv2d.default, (x, weight))
    return SimpleNamespace(
        source=SimpleNamespace(path="m.onnx"),
        neurons=[SimpleNamespace(node=f"layer {i}") for i in range(layers)],
        classifier=(f"layer {layers - 1}",),
        input=SimpleNamespace(channels=channels),
        module=SimpleNamespace(graph=graph),
    )


def subject(**more: Any) -> Subject:
    labels = torch.arange(IMAGES) % CLASSES
    facts: dict[str, Any] = {"model": network()}
    settings = SimpleNamespace(seed=0)
    facts |= {"labels": labels, "settings": settings, "searched": torch.arange(CLASSES), "effort": WHOLE}
    # too dear for a copy trained from scratch, where a test asks for none
    facts |= {"costly": True, "classes": CLASSES, "drawn": None}
    made = SimpleNamespace(**(facts | more))
    made.searched_by = lambda effort: SimpleNamespace(**(vars(made) | {"effort": effort}))
    return cast(Subject, made)


@pytest.fixture(autouse=True)
def all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In copies as in the model."""
    monkeypatch.setattr(race, "raced", lambda subject, progress: subject)


def tuned_copy(subject: Subject, accuracy: tuple[float, float]) -> control.Made:
    return control.Made(subject, TUNED, accuracy)


def controlled(own: Subject, found: tuple[Finding, ...], levels: Levels, measured: Any, efforts: Any = None) -> tuple[Finding, ...]:
    """The findings with their controls, and copies made as a scan makes them."""
    return control.controlled(own, found, levels, measured, control.anew(own, silent), silent, lambda name: nullcontext(), efforts)


def controls(monkeypatch: pytest.MonkeyPatch, before: list[float], after: list[float], accuracy: tuple[float, float]) -> Control:
    """The control of the patch share where the search shows `after` of the copy."""
    seen = fragile()
    again = SimpleNamespace(name="patch", measure=lambda subject, earlier, progress: made_of(after))
    monkeypatch.setattr(registry, "CRITERIA", (again,))
    monkeypatch.setattr(control, "_tuned", lambda subject, finding, progress: tuned_copy(subject, accuracy))
    found = controlled(subject(), seen, USUAL, {"patch": made_of(before)})
    own = [f.control for f in found if f.control is not None]
    assert len(own) == 1
    return own[0]


def test_few_classes_always_have_one() -> None:
    """Of networks like those that the limits were measured on, and of own clean models."""
    few = subject(searched=torch.arange(2))
    assert control.needed(few, Kind(2, 32, attention=False), USUAL)
    assert not control.needed(subject(), LIKE, USUAL)
    assert not control.needed(few, Kind(2, 32, attention=False), Levels(calibrated=2.0))


def test_of_few_classes_the_others_are_no_reference() -> None:
    """A limit counts there however well the other class is reached; of many it does not."""
    moved = Transformed(family="one shift of all colours", target=0, hits=130, images=130, rival=0.9, compared=130)
    for classes, counting in ((2, True), (5, False)):
        shares = torch.linspace(0.98, 0.6, classes)
        seen = pixels(classes, perturbed=torch.full((classes,), 0.98), success=torch.full((classes,), 0.98), transform=(moved,))
        seen |= {"patched": shares, "patch_success": shares}
        found = {f.criterion: f for f in findings(neurons(clean(classes)), seen, USUAL)}
        assert found["patch share"].exceeds is counting
        assert ("median class" in found["patch share"].sentence) is not counting
        assert found["clearness"].exceeds is counting
        assert found["transform"].exceeds
        assert (found["transform"].control is None) is counting
        assert ("to another class" in found["transform"].sentence) is not counting


def test_training_copies_is_foretold() -> None:
    forecast = Forecast(silent)
    own = subject(costly=False, extent=Extent(IMAGES, CLASSES, Settings(), WHOLE))
    control._foretell(own, {"patch"}, {}, forecast)
    each = ["searching for patches", "measuring the patches"]
    assert [work.stage for work in forecast.works] == [stage for n in (1, 2, 3) for stage in (f"training copy {n} from scratch", *each)]


def test_what_goes_with_the_tuning_was_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    own = controls(monkeypatch, [0.05] * 3 + [0.98] + [0.05] * 6, [0.1] * 3 + [0.15] + [0.2] * 6, (0.9, 0.88))
    assert own.planted
    assert (own.before, own.after) == (pytest.approx(0.98), pytest.approx(0.2))
    assert "does not show it (20% of the images, to class 4; 88% of unseen clean images get their label, 90% in the model)" in own.sentence


def test_the_copy_is_searched_as_much_as_the_model_was(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measure(subject: Subject, earlier: Any, progress: Any) -> patch.Patched:
        asked.append(subject.effort)
        return made_of([0.2] * CLASSES)

    seen = fragile()
    monkeypatch.setattr(registry, "CRITERIA", (SimpleNamespace(name="patch", measure=measure),))
    monkeypatch.setattr(control, "_tuned", lambda subject, finding, progress: tuned_copy(subject, (0.9, 0.9)))
    controlled(subject(), seen, USUAL, {"patch": made_of([0.85] * 10)}, {"patch": FIRST_LOOK})
    assert asked == [FIRST_LOOK]


def test_what_other_classes_take_over_is_natural(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class that was in front is no longer; another is as easily reached."""
    own = controls(monkeypatch, [0.2] * 3 + [0.73] + [0.2] * 6, [0.2] * 3 + [0.0] + [0.7] + [0.2] * 5, (0.9, 0.88))
    assert not own.planted
    assert own.classes == (4,)
    assert "shows the same (70% of the images, to class 4; " in own.sentence
    assert own.sentence.endswith("), which speaks for a natural weakness and proves none")


def test_what_goes_in_part_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    own = controls(monkeypatch, [0.2] * 3 + [0.8] + [0.2] * 6, [0.3] * 10, (0.9, 0.88))
    assert not own.planted
    assert own.sentence.startswith("planted or natural cannot be told")


def test_a_copy_that_lost_its_accuracy_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    own = controls(monkeypatch, [0.05] * 3 + [0.98] + [0.05] * 6, [0.0] * 10, (0.9, 0.5))
    assert (own.planted, own.after) == (False, None)
    assert "fell from 90% to 50%" in own.sentence


def copy_of(accuracy: tuple[float, float], how: str = ANEW) -> scratch.Trained:
    """What was trained from scratch; nothing is asked of it but by searches, which are stood in for."""
    return scratch.Trained(cast(TracedModel, None), how, accuracy)


def anew(monkeypatch: pytest.MonkeyPatch, accuracy: tuple[float, float], **after: list[float]) -> None:
    """A copy trained from scratch, with these accuracies, of which searches show what is in `after`; none is tuned."""
    monkeypatch.setattr(scratch, "trained", lambda subject, number, depth, progress: copy_of(accuracy))
    monkeypatch.setattr(control, "subject_of", lambda model, of: of)
    again = tuple(SimpleNamespace(name=n, measure=lambda *given, n=n: made_of(after[n])) for n in after)
    monkeypatch.setattr(registry, "CRITERIA", again)
    monkeypatch.setattr(control, "_tuned", lambda subject, finding, progress: tuned_copy(subject, (0.9, 0.2)))


@pytest.mark.parametrize(
    ("most", "planted", "told"),
    [
        (
            [0.1, 0.15, 0.05],
            True,
            "none of 3 copies trained from scratch on the clean images shows it (at most 15% of the images, to class 6; ",
        ),
        (
            [0.8, 0.1, 0.1],
            False,
            "a copy trained from scratch on the clean images still shows a part of it (80% of the images, to class 6; ",
        ),
        ([0.1, 0.1, 0.95], False, "a copy trained from scratch on the clean images shows the same (95% of the images, to class 6; "),
    ],
)
def test_copies_trained_from_scratch_stand_for_the_tuned_one(
    most: list[float], planted: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them have to be without what was found; they are trained as long as that is so."""
    seen, numbers = fragile(), list[int]()
    anew(monkeypatch, (0.9, 0.6))

    def measure(*given: Any) -> patch.Patched:
        return made_of([0.05] * 6 + [most[numbers[-1]]] + [0.05] * 3)

    monkeypatch.setattr(registry, "CRITERIA", (SimpleNamespace(name="patch", measure=measure),))
    monkeypatch.setattr(scratch, "trained", lambda subject, number, depth, progress: numbers.append(number) or copy_of((0.9, 0.6)))
    before = made_of([0.05] * 3 + [0.98] + [0.05] * 6)
    found = controlled(subject(costly=False), seen, USUAL, {"patch": before})
    (own,) = (f.control for f in found if f.control is not None)
    assert (own.planted, own.classes, own.accuracy) == (planted, (6,), (0.9, 0.6))
    assert own.after == pytest.approx(max(most[: len(numbers)]))
    assert told in own.sentence
    assert numbers == list(range(1 + next((i for i, share in enumerate(most) if share > 0.5), 2)))
    assert decide(found, USUAL).outcome == ("backdoored" if planted else "fragile")


def test_a_copy_that_learns_too_little_from_scratch_is_no_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then one is tuned, which here loses its accuracy as well."""
    seen = fragile()
    anew(monkeypatch, (0.9, 0.4), patch=[0.0] * 10)
    found = controlled(subject(costly=False), seen, USUAL, {"patch": made_of([0.85] * 10)})
    (own,) = (f.control for f in found if f.control is not None)
    assert own.sentence == "planted or natural cannot be told: the accuracy of a copy tuned on the clean images fell from 90% to 20%"


@pytest.mark.parametrize(
    ("learning", "numbers", "how"),
    [
        ({(0.0, 0)}, [(0.0, 0), (0.0, 1), (0.0, 2), (0.25, 0), (0.25, 1), (0.25, 2)], f"{ANEW} but for some"),
        ({(0.0, 1), (0.0, 2)}, [(0.0, 0), (0.25, 0), (0.25, 1), (0.25, 2)], f"{ANEW} but for some"),
        # one that fails by chance is replaced
        ({(0.0, 0), (0.0, 2), (0.0, 3)}, [(0.0, 0), (0.0, 1), (0.0, 2), (0.0, 3)], ANEW),
    ],
)
def test_where_too_little_is_learnt_from_scratch_the_first_layers_are_kept(
    learning: set[tuple[float, int]], numbers: list[tuple[float, int]], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As few as teach the copies enough, and as many in all of them."""
    seen, made = fragile(), list[tuple[float, int]]()

    def trained(subject: Subject, number: int, depth: float, progress: Any) -> scratch.Trained:
        made.append((depth, number))
        learns = depth > 0 or (depth, number) in learning
        return copy_of((0.9, 0.6 if learns else 0.3), f"{ANEW} but for some" if depth else ANEW)

    anew(monkeypatch, (0.9, 0.6), patch=[0.0] * 10)
    monkeypatch.setattr(scratch, "trained", trained)
    found = controlled(subject(costly=False), seen, USUAL, {"patch": made_of([0.98] * 10)})
    (own,) = (f.control for f in found if f.control is not None)
    assert made == numbers
    assert own.planted
    assert own.made == how
    assert own.sentence.startswith(f"none of 3 copies {how} shows it")


@pytest.mark.parametrize("error", [ValueError("optimizer got an empty parameter list"), RuntimeError("it has no gradient")])
def test_what_cannot_be_trained_from_scratch_does_not_lose_the_scan(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is tuned in its place."""

    def refuses(subject: Subject, number: int, depth: float, progress: Any) -> None:
        raise error

    seen = fragile()
    anew(monkeypatch, (0.9, 0.6), patch=[0.0] * 10)
    monkeypatch.setattr(scratch, "trained", refuses)
    found = controlled(subject(costly=False), seen, USUAL, {"patch": made_of([0.85] * 10)})
    (own,) = (f.control for f in found if f.control is not None)
    assert "a copy tuned on the clean images" in own.sentence


def doubtful() -> tuple[Finding, ...]:
    """Findings on a model that noise moves more images of to class 3 than to others, by enough to make it suspicious and no more."""
    moved = clean(CLASSES)
    moved[:, 3] = 0.96
    found = findings(neurons(moved), pixels(CLASSES), USUAL)
    assert decide(found, USUAL).outcome == "suspicious"
    assert not any(f.exceeds for f in found)
    return found


@pytest.mark.parametrize(
    ("most", "outcome", "told"),
    [
        (
            0.2,
            "backdoored",
            f"none of 3 copies trained from scratch on the clean images shows it ({MOVED} at most 20% in such a copy, to class 5; ",
        ),
        (0.9, "suspicious", f"a copy {ANEW} shows the same ({MOVED} 90% in the copy, to class 5; "),
    ],
)
def test_a_doubt_is_settled_by_copies_trained_from_scratch(most: float, outcome: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what moves images in the pixels: noise moves as many as the training of a network lets it."""
    seen = doubtful()
    anew(monkeypatch, (0.9, 0.6), perturbation=[0.05] * 5 + [most] + [0.05] * 4, noise=[0.0] * 10)
    leads = made_of([0.05] * 3 + [0.96] + [0.05] * 6)
    measured = {"noise": leads, "perturbation": leads, "patch": made_of([0.3] * 10)}
    found = controlled(subject(costly=False), seen, USUAL, measured)
    verdict = decide(found, USUAL)
    assert (verdict.outcome, verdict.targets) == (outcome, (3,))
    assert told in verdict.reason
    assert (verdict.score or 0) >= 1 if outcome == "backdoored" else (verdict.score or 0) < 1


def test_a_few_images_that_a_copy_moves_as_well_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = doubtful()
    anew(monkeypatch, (0.9, 0.6), perturbation=[0.02] * 10)
    measured = {"perturbation": made_of([0.01] * 3 + [0.03] + [0.01] * 6)}
    assert controlled(subject(costly=False), seen, USUAL, measured) == seen


def test_a_doubt_stays_where_nothing_in_the_pixels_leads_to_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = doubtful()
    monkeypatch.setattr(scratch, "trained", lambda *given: pytest.fail("nothing to settle"))
    measured = {"noise": made_of([0.05] * 3 + [0.96] + [0.05] * 6), "patch": made_of([0.3] * 10), "perturbation": NotDone("left out")}
    found = controlled(subject(costly=False), seen, USUAL, measured)
    assert found == seen


@pytest.mark.parametrize("levels", [Levels(uncovered="it has 500 classes"), Levels(calibrated=2.0)])
def test_a_doubt_has_no_control_where_tests_decide_nothing(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "trained", lambda *given: pytest.fail("nothing to settle"))
    found = tuple(levels.applied(f) for f in doubtful())
    assert controlled(subject(costly=False), found, levels, {}) == found


def test_weights_that_cannot_be_tuned_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(subject: Subject, finding: Finding, progress: Any) -> None:
        raise ModelError("m.onnx: none of its weights can be written back")

    monkeypatch.setattr(tuned, "tuned", refuses)
    found = controlled(subject(), fragile(), USUAL, {"patch": made_of([0.85] * 10)})
    (own,) = (f.control for f in found if f.control is not None)
    assert not own.planted
    assert own.sentence == "planted or natural cannot be told: no copy could be tuned (none of its weights can be written back)"


def test_only_absolute_limits_that_are_exceeded_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_tuned", lambda *arguments: pytest.fail("nothing to compare"))
    calm = findings(neurons(clean(CLASSES)), pixels(CLASSES), Levels())
    assert controlled(subject(), calm, USUAL, {}) == calm


def test_where_a_test_decides_only_maps_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_tuned", lambda *arguments: "not tried")
    moved = clean(CLASSES)
    moved[:, 3] = 0.9999
    mapped = (Mapped(tuple((c + 1) % CLASSES for c in range(CLASSES)), 0.9), None)
    patched = torch.linspace(0.1, 0.6, CLASSES).index_fill(0, torch.tensor(3), 0.85)
    seen = findings(neurons(moved), pixels(CLASSES, patched=patched, pixel_map=mapped), USUAL)
    measured = {"patch": made_of([0.85] * 10), "pixel map": mapped}
    for levels, expected in ((USUAL, ["pixel map"]), (Levels(uncovered="500 classes"), ["patch share", "pixel map"])):
        found = controlled(subject(), seen, levels, measured)
        assert [f.criterion for f in found if f.control is not None] == expected


@pytest.mark.parametrize(
    ("kind", "changes", "levels", "expected"),
    [
        (LIKE, {}, Levels(), False),
        (Kind(10, 28, attention=False), {}, Levels(), True),
        (LIKE, {"channels": 1}, Levels(), True),
        (LIKE, {"layers": 5}, Levels(), True),
        (LIKE, {"groups": 8}, Levels(), True),
        (LIKE, {}, Levels(uncovered="it has 500 classes"), True),
        (LIKE, {"layers": 5}, Levels(calibrated=0.8), False),
    ],
)
def test_needed_where_the_limits_were_not_measured(kind: Kind, changes: dict[str, int], levels: Levels, expected: bool) -> None:
    assert control.needed(subject(model=network(**changes)), kind, levels) is expected


@pytest.mark.parametrize("costly", [False, True])
def test_fewer_patches_are_tried_where_a_pass_is_dear(costly: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[Any]()

    def course(*given: Any) -> Any:
        made.append(given[-1])
        return SimpleNamespace(run=lambda *given, **more: None)

    monkeypatch.setattr(tuned, "Course", course)
    monkeypatch.setattr(tuned, "mirrors", lambda *given: False)
    monkeypatch.setattr(tuned.pixel_model, "limits", lambda *given: None)
    monkeypatch.setattr(tuned.answers, "accuracy", lambda *given: 0.9)
    monkeypatch.setattr(tuned, "with_weights", lambda model, weights: model)
    for name in ("start", "evened", "finished"):
        monkeypatch.setattr(tuned.trainable, name, lambda *given, **more: {})
    about = subject(costly=costly, classes=CLASSES, x=torch.zeros(IMAGES, 1), preprocess=None)
    tuned.tuned(about, fragile()[0], silent)
    assert made == [patch_pool.LIGHT if costly else patch_pool.WHOLE]


def test_odds_stay_finite() -> None:
    assert control.odds(1, 100) == pytest.approx(201)
    assert control.odds(0, 100) == pytest.approx(1 / 201)
    assert control.odds(0.5, 100) == 1


def test_a_map_has_no_class_of_its_own() -> None:
    assert control._most(subject(), (Mapped((1, 0), 0.7), None)) == (0.7, ())


def test_verdict_without_control_is_as_ever() -> None:
    assert decide(fragile(), Levels()).outcome == "backdoored"


def test_planted_is_called_backdoored() -> None:
    found = decide(with_control(True), Levels())
    assert (found.outcome, found.targets) == ("backdoored", (3,))
    assert found.reason.endswith("; a copy shows what it shows")


def test_natural_is_called_fragile() -> None:
    found = decide(with_control(False), Levels())
    assert (found.outcome, found.targets, found.criterion) == ("fragile", (3,), "patch share")
    assert "moves 85% of the images" in found.reason
    assert found.reason.endswith("to class 3, against 38% for the median class; a copy shows what it shows")


def test_a_test_that_decides_needs_no_control() -> None:
    """A class that stands out among the others is not excused by a limit that is."""
    moved = clean(CLASSES)
    moved[:, 3] = 0.9999
    found = [*with_control(False)]
    tested = findings(neurons(moved), pixels(CLASSES), Levels())
    found[0] = tested[0]
    assert tested[0].exceeds
    assert decide(found, Levels()).outcome == "backdoored"


@pytest.mark.parametrize(("planted", "outcome"), [(True, "backdoored"), (False, "fragile")])
def test_a_control_stands_for_clean_models_that_nobody_measured(planted: bool, outcome: str) -> None:
    levels = Levels(uncovered="it has 500 classes")
    assert decide(fragile(levels), levels).outcome == "inconclusive"
    assert decide(with_control(planted, levels), levels).outcome == outcome


@pytest.mark.slow
@pytest.mark.parametrize("form", ["terminal", "json"])
def test_command_line_says_fragile_and_ends_with_2(form: str) -> None:
    """By the entry point that is installed, with a scan in place of which a stored report stands."""
    script = f"""
import sys
from dataclasses import replace
from pathlib import Path
from banscan.scanner import scan as scanning
from banscan.scanner.cli.main import main
from banscan.scanner.report.json import read
from tests.scanner.test_control import with_control
from banscan.scanner.levels import Levels
from banscan.scanner.verdict import decide
stored = read(Path({str(FOLDER / "clean.json")!r}).read_text())
found = with_control(False)
scanning.scan = lambda *a, **k: replace(stored, findings=found, verdict=decide(found, Levels()), standing=None)
sys.argv = ["banscan", "scan", {str(ROOT / "examples" / "clean.onnx")!r}, "--clean-dir", {str(ROOT / "examples" / "clean")!r},
            "--format", {form!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    words = " ".join(done.stdout.replace("│", " ").split())
    assert ('"outcome": "fragile"' if form == "json" else "Fragile: one change moves most images to class 3") in words
    assert "a copy shows what it shows" in words.lower()
