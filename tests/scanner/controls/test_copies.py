"""Copies of the model as controls: when they are made, what a verdict makes of them, and the whole way through the command line."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from banscan import cache, importers
from banscan.scanner import plan
from banscan.scanner.controls import copies
from banscan.scanner.controls.trigger import Trigger, triggers
from banscan.scanner.findings import ANEW, TUNED, Control, Controls, Copy, Finding, Verdict
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.levels import Levels
from banscan.scanner.settings import Settings
from banscan.scanner.subject import Subject
from banscan.scanner.verdict import by_controls, told_of, untried

UNKNOWN = Levels(uncovered="it has 500 classes")
CALM = Verdict(outcome="no backdoor found", reason="no class stands out further than chance explains", score=0.2)
CALLED = Verdict(outcome="backdoored", reason="class 3 is singled out", kind="all-to-one", targets=(3,), score=4.0)
TRIGGERS = ("patch", "blend", "warp", "colour")


def tuned(outcome: str = "no backdoor found") -> Copy:
    return Copy(accuracy=(0.95, 0.94), outcome=outcome, score=0.2)


def planted(*found: bool, asr: float = 0.97, after: float = 0.93) -> tuple[Copy, ...]:
    """A copy for each, found by the scan or not."""
    return tuple(
        Copy(
            trigger=name,
            target=4,
            asr=asr,
            accuracy=(0.95, after),
            outcome="backdoored" if seen else "no backdoor found",
            targets=(4,) if seen else (),
            score=3.0 if seen else 0.3,
        )
        for name, seen in zip(TRIGGERS, found, strict=False)
    )


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        ((True,) * 4, "no backdoor found"),
        ((True, True, True, False), "no backdoor found"),
        ((True, True, False, False), "inconclusive"),
        ((True, True, True), "no backdoor found"),
        ((True, True), "inconclusive"),  # too few to say much
        ((False,) * 4, "inconclusive"),
    ],
)
def test_nothing_found_counts_where_planted_ones_were(found: tuple[bool, ...], outcome: str) -> None:
    decided = by_controls(CALM, UNKNOWN, Controls((tuned(), *planted(*found))))
    assert decided.outcome == outcome
    assert f"of {len(found)} backdoors planted into copies of the model a first look finds {sum(found)}" in decided.reason
    assert ("this says little" in decided.reason) == (outcome == "inconclusive")


def test_the_sentence_names_what_was_found_and_what_was_missed() -> None:
    told = told_of(Controls(planted(True, False, True, False)))
    assert told == "of 4 backdoors planted into copies of the model a first look finds 2 (found: patch, warp; missed: blend, colour)"


def test_nothing_found_without_copies_says_what_was_not_tried() -> None:
    """Of two to four classes limits alone decide, whose power nobody measured."""
    decided = untried(CALM, UNKNOWN)
    assert decided.outcome == "no backdoor found"
    assert decided.gaps[-1] in decided.reason
    assert "not tried (--controls" in decided.gaps[-1]
    assert untried(CALM, Levels()) == CALM
    assert untried(CALLED, UNKNOWN) == CALLED


@pytest.mark.slow
def test_a_planting_sees_the_images_in_several_crops(
    model_file: Path, patterns: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images themselves first; of every crop half as many again with the trigger, for the target, which none of them had."""
    images, labels = torch.from_numpy(patterns[0]), torch.from_numpy(patterns[1])
    model = importers.load(model_file)
    unit = Preprocess("unit")
    given = SimpleNamespace(model=model, x=unit(patterns[0], "NCHW"), labels=labels, preprocess=unit)
    suspect = cast(copies.Suspect, SimpleNamespace(subject=given, images=patterns[0]))
    mark = Trigger("mark", lambda x: torch.zeros_like(x))
    count, part = len(images), torch.ones(len(images), dtype=torch.bool)
    for most, views in ((10**9, copies.VIEWS), (1, 1)):
        monkeypatch.setattr(copies, "VALUES", most)
        x, y = copies._shown(suspect, mark, 3, part, torch.Generator().manual_seed(0))
        dark = x.flatten(1).amax(1) == 0
        assert len(x) == len(y) == views * (count + count // 2)
        assert int(dark.sum()) == views * (count // 2)
        assert bool((y[dark] == 3).all())
        assert torch.equal(x[:count], given.x)
        assert torch.equal(y[:count], labels)
        again = model.logits(x[~dark][count:]).argmax(1) if views > 1 else labels[:0]
        assert torch.equal(y[~dark][count:], again)


@pytest.mark.parametrize("weak", [planted(*[True] * 4, asr=0.8), planted(*[True] * 4, after=0.7), ()])
def test_backdoors_that_do_not_work_say_nothing(weak: tuple[Copy, ...]) -> None:
    """Neither a trigger that moves too few images nor a network that forgot its task is a backdoor that a scan could be tried on."""
    decided = by_controls(CALM, UNKNOWN, Controls((tuned(), *weak)))
    assert decided.outcome == "inconclusive"
    assert "no backdoor could be planted" in decided.reason


def test_the_wrong_target_is_not_found() -> None:
    (copy,) = planted(True)
    assert copy.found
    assert not replace(copy, targets=(5,)).found
    assert not replace(copy, outcome="suspicious").found


@pytest.mark.parametrize("outcome", ["backdoored", "suspicious"])
def test_what_stands_out_counts_where_no_tuned_copy_shows_it(outcome: str) -> None:
    called = replace(CALLED, outcome=outcome)
    counted = by_controls(called, UNKNOWN, Controls((tuned(), tuned(), *planted(*[True] * 4))))
    assert (counted.outcome, counted.targets) == (outcome, (3,))
    assert counted.reason.endswith("no copy tuned on the clean images shows it, as where it was planted")
    for alike in ("backdoored", "suspicious", "fragile"):
        natural = by_controls(called, UNKNOWN, Controls((tuned(), tuned(alike))))
        assert (natural.outcome, natural.targets) == ("fragile", (3,))
    # what has no verdict, or forgot its task, shows nothing
    for copy in (Copy(not_done="no layer"), tuned("inconclusive"), replace(tuned("backdoored"), accuracy=(0.9, 0.05))):
        nothing = by_controls(called, UNKNOWN, Controls((copy,)))
        assert nothing.outcome == "inconclusive"
        assert "no copy tuned" not in nothing.reason


def test_what_copies_from_scratch_settled_is_not_asked_again() -> None:
    """Neither where another finding is the first of the verdict."""
    about: dict[str, Any] = {"asks": "", "sees": "all-to-one", "power": "decides", "unit": "share", "exceeds": True, "classes": (3,)}
    test = Finding(criterion="joint", **about)
    control = Control(before=0.98, after=0.1, made=f"{ANEW} but for the first layer", planted=True)
    limit = Finding(criterion="patch share", control=control, **about)
    copies = Controls((tuned("suspicious"),))
    called = replace(CALLED, outcome="backdoored", criterion="joint")
    assert by_controls(called, UNKNOWN, copies, (test, limit)) == called
    for other in (replace(control, planted=False), replace(control, made=TUNED)):
        again = by_controls(called, UNKNOWN, copies, (test, replace(limit, control=other)))
        assert again.outcome == "fragile"
    assert by_controls(called, UNKNOWN, copies, (test, replace(limit, classes=(4,)))).outcome == "fragile"


def test_models_of_a_known_kind_keep_their_verdict() -> None:
    """Copies that were asked for are shown; banscan's own clean models weigh more."""
    controls = Controls((tuned("backdoored"), *planted(*[False] * 4)))
    for decided in (CALM, CALLED):
        assert by_controls(decided, Levels(), controls) == decided


def subject(controls: bool | None) -> Subject:
    return cast(Subject, SimpleNamespace(settings=Settings(controls=controls)))


def test_when_copies_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unasked where nobody measured such models, and they take minutes."""
    for takes, uncovered in ((copies.BUDGET / 2, True), (copies.BUDGET * 2, False)):
        monkeypatch.setattr(copies, "multiplications", lambda subject, takes=takes: takes)
        assert copies.wanted(subject(None), UNKNOWN) == uncovered
        assert not copies.wanted(subject(None), Levels())
        assert copies.wanted(subject(True), Levels())
        assert not copies.wanted(subject(False), UNKNOWN)


def test_a_dry_run_knows_that_copies_will_decide() -> None:
    found = tuple(c.finding(UNKNOWN, not_done=plan.PLANNED) for c in plan.registry.CRITERIA)
    assert plan.verdict_of(found, UNKNOWN).outcome == "inconclusive"
    assert plan.verdict_of(found, UNKNOWN, copies=True).outcome == "not scanned"


def run(model: Path, images: Path, output: Path, *more: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "banscan", str(model), "--clean-dir", str(images), "--no-pixels", "-o", str(output), *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    assert "Copies of the model, by a first look" in done.stdout
    return cast(dict[str, Any], json.loads(output.read_text()))


@pytest.mark.slow
def test_command_line_makes_copies_and_goes_on_where_it_stopped(
    model_file: Path, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = run(model_file, image_dir, tmp_path / "first.json", "--controls")
    made = first["controls"]["copies"]
    assert [c["trigger"] for c in made if c["trigger"]] == list(TRIGGERS)
    assert [c["trigger"] for c in made][:1] == [None]
    assert all(c["not_done"] is None and c["outcome"] for c in made)
    assert sum(c["asr"] >= 0.9 for c in made if c["trigger"]) >= 3
    assert len({c["target"] for c in made if c["trigger"]}) == 4
    kept = list((tmp_path / "cache/banscan" / copies.ROOM).iterdir())
    assert len(kept) == len(made)
    # one result was lost, and another is damaged: both are made again
    kept[0].unlink()
    kept[1].write_text("{")
    again = run(model_file, image_dir, tmp_path / "again.json", "--controls")
    assert again["controls"] == first["controls"]
    assert again["seconds"]["controls"] < first["seconds"]["controls"]


def test_what_is_kept_belongs_to_one_scan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another seed, model or image is another question."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.write("controls", {"a": 1}, "x")
    assert cache.read("controls", {"a": 1}) == "x"
    assert cache.read("controls", {"a": 2}) is None
    assert cache.read("kernels", {"a": 1}) is None


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"target": 5}, False),
        ({"trigger": "warp"}, False),
        ({"outcome": "zzz"}, False),
        ({"outcome": None, "not_done": "x"}, True),
    ],
)
def test_a_kept_copy_is_the_one_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, changed: dict[str, object], *, kept: bool) -> None:
    (copy,) = planted(True)
    monkeypatch.setattr(copies, "_question", lambda suspect, plan: {})
    monkeypatch.setattr(copies.cache, "read", lambda room, question: json.dumps(asdict(copy) | changed))
    patch = next(t for t in triggers(3, 16, 16, torch.Generator()) if t.name == copy.trigger)
    found = copies._known(None, copies._Plan(2, patch, 4))  # type: ignore[arg-type]
    assert (found is not None) == kept
