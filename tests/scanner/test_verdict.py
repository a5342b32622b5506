"""What findings lead to, and what is said of it."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import binom

from banscan.scanner.criteria import class_maps, noise, outlier, patch_share
from banscan.scanner.criteria.base import NotDone
from banscan.scanner.criteria.patch import reached
from banscan.scanner.criteria.registry import CRITERIA
from banscan.scanner.findings import FRAGILE, SUSPECTS, Control, Verdict
from banscan.scanner.levels import BACKDOORED, Levels
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.verdict import STEPS, contradicts, decide, inconclusive, unasked, whichever
from tests.scanner.measured import clean, findings, judge, neurons, one, pixels

FOLLOWED = tuple((c + 1) % 43 for c in range(43))


@pytest.mark.parametrize(("classes", "targets"), [(10, 2), (43, 3), (43, 10)])
def test_several_targets_hide_one_another(classes: int, targets: int) -> None:
    """Each by itself is no outlier among the others, which hold the rest of them."""
    moved = (clean(classes).logit() + 6 * (torch.arange(classes) < targets)).sigmoid()
    result, first = judge(neurons(moved), None), one("noise", neurons(moved))
    if targets > 2:
        assert float(outlier.outlier(outlier.log_odds(moved).mean(0)).max()) < (first.limit or 0)
    assert result.outcome == "backdoored"
    assert set(result.targets) == set(first.classes) == set(range(targets))
    assert ("stands" if targets == 2 else "stand") + " out as well" in result.reason
    assert first.steady


def test_target_is_found() -> None:
    moved = clean()
    moved[:, 7] = 0.97
    result, noise = judge(neurons(moved), None), one("noise", neurons(moved))
    assert (result.outcome, result.kind, result.target) == ("backdoored", "all-to-one", 7)
    assert result.p_value is not None
    assert result.p_value < BACKDOORED
    assert len(noise.restarts) == 4
    assert (noise.exceeds, noise.suspects, noise.classes) == (True, True, (7,))
    assert noise.score == pytest.approx(math.log(noise.p_value or 1) / math.log(BACKDOORED))


def test_target_that_leads_in_one_restart_only_is_not_enough() -> None:
    moved = clean()
    moved[0, 7] = 0.9999
    assert judge(neurons(moved), None).outcome != "backdoored"


def test_clean_models_pass() -> None:
    outcomes = [judge(neurons(clean(seed=s)), None).outcome for s in range(200)]
    assert outcomes.count("backdoored") <= 4
    assert outcomes.count("suspicious") <= 12


@pytest.mark.parametrize(("moved", "outcome"), [(0.5, "no backdoor found"), (1.0, "inconclusive")])
def test_equal_classes_do_not_divide_by_zero(moved: float, outcome: str) -> None:
    assert judge(neurons(torch.full((4, 10), moved)), None).outcome == outcome


def test_a_class_that_such_noise_singles_out_does_not_count() -> None:
    """Too much of it leads anywhere: to one class with a seed, to another with the next."""
    moved = torch.zeros(4, 10).index_fill(1, torch.tensor(5), 0.9)
    found = one("noise", neurons(moved))
    assert found.p_value is not None
    assert found.p_value < BACKDOORED
    assert (found.exceeds, found.suspects, found.score) == (False, False, 0.0)
    assert judge(neurons(moved), None).outcome == "inconclusive"


@pytest.mark.parametrize(("given", "advice"), [(True, "leave out --eps"), (False, "another export")])
def test_blind_noise_says_what_to_do(given: bool, advice: str) -> None:
    told = replace(noise.moved_to(torch.zeros(1, 10), 0.2), given=given).blind
    assert told is not None
    assert advice in told


def test_a_gradient_that_leads_nowhere_leaves_a_calm_scan_open() -> None:
    levels, none = Levels(), NotDone("the gradient is misleading", blinds=True)
    calm = findings(neurons(clean()), None, levels)
    seen = [replace(f, not_done=none.why, blind=none.why) if f.criterion in ("margin", "perturbation", "pixel map") else f for f in calm]
    assert decide(calm, levels).outcome == "no backdoor found"
    assert decide(seen, levels).outcome == "inconclusive"
    assert decide(seen, levels).reason.count(none.why) == 1
    planted = findings(neurons(clean().index_fill(1, torch.tensor(7), 0.97)), None, levels)
    seen = [replace(f, not_done=none.why, blind=none.why) if f.criterion == "perturbation" else f for f in planted]
    assert decide(seen, levels).targets == (7,)


@pytest.mark.parametrize("moved", [0.003, 0.01])
def test_one_image_more_than_none_is_no_outlier(moved: float) -> None:
    """Classes that nothing is moved to are all alike, but only as far as can be counted."""
    reached_ = torch.zeros(4, 43).index_fill(1, torch.tensor(7), moved)
    for seen in (None, pixels(), pixels(success=reached_[0], patch_success=reached_[0])):
        assert judge(neurons(reached_), seen).outcome == "inconclusive"
        assert judge(neurons(clean()), seen).outcome == "no backdoor found"


@pytest.mark.parametrize(("level", "why"), [(-6, "too few to tell"), (7, "too many to tell")])
def test_noise_that_cannot_tell_classes_apart_is_inconclusive(level: float, why: str) -> None:
    moved = (clean().logit() + level).sigmoid()
    result = judge(neurons(moved), None)
    assert result.outcome == "inconclusive"
    assert why in result.reason
    seen = judge(neurons(moved), pixels(patched=torch.full((43,), 0.1).index_fill(0, torch.tensor(7), 1.0)))
    assert (seen.outcome, seen.target) == ("backdoored", 7), "what stands out nonetheless counts"


@pytest.mark.parametrize("name", ["margin", "perturbation", "patch", "logit"])
def test_every_test_counts(name: str) -> None:
    calm, noise = pixels(), neurons(clean())
    if name == "margin":
        calm["largest"][:, 7] += 15
    elif name == "perturbation":
        calm["success"][7] = 0.995
    elif name == "patch":
        calm["patch_success"][7] = 0.995
    else:
        noise["logits"][7] += 9
    result, found = judge(noise, calm), findings(noise, calm, Levels())
    outcome = "suspicious" if name == "margin" else "backdoored"
    assert (result.outcome, result.target, result.criterion) == (outcome, 7, name)
    assert [f.criterion for f in found] == [c.name for c in CRITERIA]
    assert [f.criterion for f in found if f.exceeds and f.p_value is not None] == ([] if name == "margin" else [name, "joint"])
    assert result.reason.count("class 7") == 1


def test_margin_alone_never_decides() -> None:
    """However far it stands out, also with a calibration; the score is that of the other tests, the joint one among them."""
    calm, noise = pixels(), neurons(clean())
    calm["largest"][:, 7] += 1000
    margin = one("margin", noise, calm)
    assert margin.power == SUSPECTS
    assert not margin.exceeds
    assert (margin.p_value or 0) < 1e-30
    for limit in (None, 1.0):
        result = judge(noise, calm, limit)
        assert result.outcome == ("suspicious" if limit is None else "no backdoor found")
        assert ("no other test stands by it" in result.reason) == (limit is None)
        assert result.score is not None
        assert result.score < 1


def test_weak_signs_add_up() -> None:
    """A class that leads everywhere, nowhere clearly, stands out jointly."""
    calm, noise = pixels(), neurons(clean())
    noise["moved"][:, 7] = 0.7
    calm["largest"][:, 7] = 17.6
    calm["success"][7] = calm["patch_success"][7] = 0.78
    noise["logits"][7] = 2.6
    result = judge(noise, calm)
    assert (result.outcome, result.target, result.criterion) == ("backdoored", 7, "joint")
    assert all(f.p_value > 0.02 for f in findings(noise, calm, Levels()) if f.p_value is not None and f.criterion != "joint")


def test_clean_models_pass_all_tests() -> None:
    """Several tests are paid for: on evidence that differs by chance, few models are flagged."""
    outcomes = [judge(neurons(clean(seed=s), seed=s), pixels(seed=s)).outcome for s in range(300)]
    assert outcomes.count("backdoored") <= 4
    assert outcomes.count("no backdoor found") >= 285


def test_all_to_all_verdict() -> None:
    followed = (Mapped(FOLLOWED, 0.8), None)
    result = judge(neurons(clean()), pixels(pixel_map=followed))
    assert (result.outcome, result.kind, result.criterion) == ("backdoored", "all-to-all", "pixel map")
    assert result.mapping[3] == (3, 4)
    assert "perturbation" in result.reason
    assert judge(neurons(clean()), pixels(pixel_map=(Mapped(FOLLOWED, 0.55), None))).outcome == "no backdoor found"
    by_noise = judge(neurons(clean(), noise_map=followed), None)
    assert (by_noise.kind, by_noise.mapping, "noise" in by_noise.reason) == ("all-to-all", result.mapping, True)
    both = judge(neurons(clean(), noise_map=(Mapped(FOLLOWED, 0.7), None)), pixels(pixel_map=followed))
    assert both.criterion == "pixel map", "of two maps that one that moves more"


def test_a_class_that_stands_out_is_the_target_whatever_moves_along_a_map() -> None:
    """Noise towards one target moves images along a map as well in networks of depthwise layers."""
    raised = clean()
    raised[:, 7] = 0.97
    for aside in (None, pixels()):
        result = judge(neurons(raised, noise_map=(Mapped(FOLLOWED, 0.64), None)), aside)
        assert (result.outcome, result.kind, result.target, result.mapping) == ("backdoored", "all-to-one", 7, ())


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("levels", [Levels(), Levels(uncovered="no clean model of so few classes was measured")])
def test_of_few_classes_limits_decide(classes: int, levels: Levels) -> None:
    """No test is asked, and the report says so; what a control calls planted counts, what it does not is fragile."""
    calm = findings(neurons(clean(classes)), pixels(classes), levels)
    # that one of so few is in front in every restart says nothing, and is not said
    assert all((f.p_value, f.restarts, f.suspects) == (None, (), False) for f in calm)
    result = decide(calm, levels)
    assert (result.outcome, result.p_value, result.criterion) == ("no backdoor found", None, None)
    assert result.reason.startswith("nothing exceeds a limit; not asked: noise, logit, margin, perturbation, patch, joint")
    moved = torch.full((classes,), 0.1).index_fill(0, torch.tensor(1), 0.99)
    found = findings(neurons(clean(classes)), pixels(classes, patched=moved, patch_success=moved), levels)
    for planted, outcome in ((True, "backdoored"), (False, FRAGILE)):
        control = Control(before=0.99, after=0.1, planted=planted, sentence="a copy shows what it shows")
        result = decide([replace(f, control=control) if f.criterion == "patch share" else f for f in found], levels)
        assert (result.outcome, result.target, result.criterion) == (outcome, 1, "patch share")


def test_a_small_patch_that_moves_most_images() -> None:
    """Few classes leave the outlier tests next to no power; a patch that works is a fact all the same, where others do not work as well."""
    calm = pixels(10)
    calm["patched"][7] = 0.9
    result = judge(neurons(clean(classes=10)), calm)
    assert (result.outcome, result.kind, result.target, result.criterion) == ("backdoored", "all-to-one", 7, "patch share")
    assert "90%" in result.reason
    least = patch_share.least_share(reached(calm["patched"], calm["patch_success"], 130))[1]
    assert binom.sf(round(0.9 * 130) - 1, 130, least) == pytest.approx(0.005 / 10, rel=1e-6)  # for a true share this small, by chance
    assert result.score == pytest.approx((least / 0.5) ** 3)
    few = calm | {"patch_images": 17, "patched": calm["patched"].clamp(max=0.75)}
    fragile = calm | {"patched": calm["patched"].clamp(min=0.46)}
    weak = calm | {"patched": calm["patched"].clamp(max=0.49)}
    for other in (fragile, weak, few):
        assert judge(neurons(clean(classes=10)), other).outcome == "no backdoor found"


def test_of_equal_shares_the_clearer_one_is_the_target() -> None:
    calm = pixels(10)
    calm["patched"][[3, 7, 8]] = 0.9
    calm["patch_success"][[3, 7, 8]] = torch.tensor([0.7, 0.8, 0.7])
    result = judge(neurons(clean(classes=10)), calm)
    assert (result.target, result.criterion) == (7, "patch share")


def test_a_perturbation_that_works_too_clearly() -> None:
    """Images forced over the border stay near it; ones that the model is surer of than of clean images have been met before."""
    calm = pixels(10)
    calm["success"][:] = torch.linspace(0.05, 0.86, 10)
    calm["success"][7] = 0.98
    result, clear = judge(neurons(clean(classes=10)), calm), one("clearness", neurons(clean(classes=10)), calm)
    assert (result.outcome, result.kind, result.target, result.criterion) == ("backdoored", "all-to-one", 7, "clearness")
    assert result.reason.count("class 7") == 1
    assert clear.classes == (7,)
    assert clear.value == pytest.approx(0.98)
    assert clear.limit == pytest.approx(1 / (1 + math.exp(-2)))  # softness is half of the median margin
    assert result.score == clear.score == pytest.approx(0.98 / 0.02 / math.exp(2))
    fragile = calm | {"success": (calm["success"].logit() + 2).sigmoid().clamp(max=0.97)}
    weak = calm | {"success": calm["success"].clamp(max=0.87)}
    for other in (fragile, weak):
        assert judge(neurons(clean(classes=10)), other).outcome == "no backdoor found"


def test_without_pixels() -> None:
    """Noise and logits alone still give a verdict; what was left out says so."""
    found = findings(neurons(clean()), None, Levels())
    assert [f.criterion for f in found if f.p_value is not None] == ["noise", "logit", "joint"]
    assert all("--no-pixels" in str(f.not_done) for f in found if f.criterion in ("margin", "patch", "clearness", "pixel map"))
    result = judge(neurons(clean(), noise_map=(Mapped(FOLLOWED, 0.3), None)), None)
    left_out = "margin, perturbation, patch, patch share, clearness, transform, pixel map (--no-pixels leaves out the searches over pixels)"
    assert result.gaps == (f"not asked: {left_out}",)
    assert left_out in result.reason
    assert "left out" in result.next_step
    assert judge(neurons(clean(), noise_map=(Mapped(FOLLOWED, 0.3), None)), pixels()).gaps == ()


def test_a_kind_that_was_not_looked_for_is_in_the_verdicts_own_sentence() -> None:
    result = judge(neurons(clean(), noise_map=NotDone("leave out --eps")), None)
    assert result.outcome == "no backdoor found"
    gap = "all-to-all backdoors were not looked for: leave out --eps and --no-pixels leaves out the searches over pixels"
    assert result.gaps[1:] == (gap,)
    assert gap in result.reason


def test_what_a_search_for_a_map_left_out_is_said_once() -> None:
    partly = "all-to-all backdoors were looked for among 42 of the 43 classes: class 0 has no image"
    maps = {"noise_map": (Mapped((-1, *FOLLOWED[1:]), 0.3), partly)}
    result = judge(neurons(clean(), **maps), pixels(pixel_map=(Mapped((-1, *FOLLOWED[1:]), 0.3), partly)))
    assert result.gaps == (partly,)
    assert result.reason.count(partly) == 1


def test_without_any_test_there_is_no_verdict() -> None:
    found = tuple(c.finding(Levels(), not_done="3 classes are too few") for c in CRITERIA)
    result = decide(found, Levels())
    assert (result.outcome, result.reason, result.score) == ("inconclusive", "3 classes are too few", None)


@pytest.mark.parametrize("limit", [0.05, 0.3, 2.0])
def test_limits_are_shown_as_a_calibration_sets_them(limit: float) -> None:
    """A value at the limit that is shown has just the score of the calibration."""
    levels = Levels(calibrated=limit)
    shown = {f.criterion: f for f in findings(neurons(clean(), noise_map=(Mapped(FOLLOWED, 0.3), None)), pixels(), levels)}
    noise = shown["noise"]
    p = outlier.outlier_p(noise.limit or 0.0, 43, 2 * 5 * 43)
    assert outlier.score(p) == pytest.approx(limit, rel=1e-6)
    assert class_maps.score(shown["noise map"].limit or 0.0, class_maps.LIMIT) == pytest.approx(limit)
    assert shown["noise map"].exceeds == (shown["noise map"].score > limit)


def test_every_verdict_ends_with_a_next_step() -> None:
    moved = clean()
    moved[:, 7] = 0.97
    uncovered = Levels(uncovered="it has 1000 classes")
    found = findings(neurons(moved), None, uncovered)
    verdicts = [judge(neurons(moved), None), judge(neurons(clean()), None), decide(found, uncovered)]
    assert [v.outcome for v in verdicts] == ["backdoored", "no backdoor found", "inconclusive"]
    assert len({v.next_step for v in verdicts}) == 3
    assert "banscan calibrate" in verdicts[2].next_step
    assert verdicts[2].target == 7
    assert "class 7" in verdicts[2].reason


def found(outcome: str, score: float, *targets: int) -> Verdict:
    return Verdict(outcome=outcome, reason=f"it scores {score}", score=score, targets=targets, gaps=("a gap",))


@pytest.mark.parametrize(
    ("verdicts", "outcome", "shown", "targets"),
    [
        # the most evidence of those where nothing was found
        ((found("no backdoor found", 0.2), found("no backdoor found", 0.7)), "no backdoor found", "b", ()),
        # the least of those where something was, with its own targets
        ((found("backdoored", 3.0, 4, 5), found("backdoored", 2.0, 4)), "backdoored", "b", (4,)),
        ((found("backdoored", 3.0, 4), found("backdoored", 2.0, 6)), "backdoored", "b", (6,)),
        ((found("backdoored", 3.0, 4), found("suspicious", 0.8, 4)), "suspicious", "b", (4,)),
        ((found("suspicious", 0.9, 4), found(FRAGILE, 0.8, 4), found("backdoored", 3.0, 4)), FRAGILE, "b", (4,)),
        # what depends on the preprocessing is open
        ((found("no backdoor found", 0.2), found("backdoored", 2.0, 6)), "inconclusive", "b", ()),
        ((inconclusive("labels"), found("no backdoor found", 0.2)), "inconclusive", "a", ()),
        ((inconclusive("labels"), inconclusive("labels")), "inconclusive", "a", ()),
        ((found("not scanned", 0.0), found("not scanned", 0.0)), "not scanned", "a", ()),
    ],
)
def test_a_verdict_holds_whichever_preprocessing_is_right(
    verdicts: tuple[Verdict, ...], outcome: str, shown: str, targets: tuple[int, ...]
) -> None:
    named = dict(zip("abc", verdicts, strict=False))
    name, both = whichever(named, "say which is right")
    assert (name, both.outcome, both.targets) == (shown, outcome, targets)
    assert both.gaps == (("a gap",) if all(v.gaps for v in verdicts) else tuple(f"under {n}: a gap" for n, v in named.items() if v.gaps))
    if outcome == "inconclusive":
        assert both.score is None
        assert all(f"under {n}: {v.outcome} ({v.reason})" in both.reason for n, v in named.items())
        assert both.reason.endswith("say which is right")
    else:
        assert both.score == named[shown].score
        assert f"which of {' and '.join(', '.join(named).rsplit(', ', 1))} is the right preprocessing" in both.reason
        if len({(v.outcome, v.targets[:1]) for v in verdicts}) == 1:
            assert both.reason.startswith(named[shown].reason)
        else:
            assert all(f"under {n}, {v.outcome} ({v.reason})" in both.reason for n, v in named.items())
            assert "comes to this" not in both.reason


@pytest.mark.parametrize(
    ("outcomes", "left"),
    [
        ((), False),
        (("no backdoor found", "no backdoor found"), False),
        (("backdoored", FRAGILE), False),
        (("backdoored", "no backdoor found"), True),
        (("inconclusive",), False),
        (("inconclusive", FRAGILE, "no backdoor found"), True),
    ],
)
def test_a_further_preprocessing_is_asked_only_where_it_can_settle_the_verdict(outcomes: tuple[str, ...], left: bool) -> None:
    told = {str(i): found(outcome, 0.5) for i, outcome in enumerate(outcomes)}
    assert contradicts(told) == left
    if left:
        # whatever it says
        assert all(whichever(told | {"z": found(o, 0.5)}, "")[1].outcome == "inconclusive" for o in ("backdoored", "no backdoor found"))
        _, both = whichever(told | {"z": unasked()}, "say which is right")
        assert both.outcome == "inconclusive"
        assert "under z: not scanned (those before it contradict one another)" in both.reason


def test_what_was_left_out_under_another_preprocessing_is_asked_for() -> None:
    whole, partly = replace(found("no backdoor found", 0.7), gaps=(), next_step="nothing more"), found("no backdoor found", 0.2)
    name, both = whichever({"a": whole, "b": partly}, "say which is right")
    assert (name, both.gaps) == ("a", ("under b: a gap",))
    assert both.next_step == STEPS["gaps"]
