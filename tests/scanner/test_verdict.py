"""The outlier test: its formula, its false-positive rate, what it decides."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from banscan.scanner.evidence import Evidence
from banscan.scanner.pixel_evidence import PixelEvidence
from scipy.stats import binom

from banscan.scanner import verdict
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.verdict import BACKDOORED, SUSPICIOUS


def evidence(moved: torch.Tensor, seed: int = 0) -> Evidence:
    restarts, classes = moved.shape
    table = torch.zeros(restarts, classes, classes)
    return Evidence(
        eps=0.2,
        targets=torch.arange(classes),
        margins=table,
        moved=moved,
        clean_logits=torch.randn(classes, generator=torch.Generator().manual_seed(50 + seed)),
        clean_shares=torch.full((classes,), 1 / classes),
        noisy_shares=torch.full((restarts, classes), 1 / classes),
        noisy_accuracy=torch.full((restarts,), 0.5),
        mapped=None,
    )


def clean(classes: int = 43, restarts: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    level = torch.randn(classes, generator=generator) * 0.5 - 0.5
    return (level + 0.1 * torch.randn(restarts, classes, generator=generator)).sigmoid()


def test_statistic_is_the_deleted_residual() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 3.0, 9.0])
    rest = np.array([1.0, 2.0, 4.0, 3.0])
    expected = (9 - rest.mean()) / (rest.std(ddof=1) * np.sqrt(1 + 1 / 4))
    assert float(verdict.outlier(values)[4]) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [10, 43, 200])
def test_false_positive_rate(classes: int) -> None:
    """On normal values the p-value keeps its promise."""
    values = torch.randn(20_000, classes, generator=torch.Generator().manual_seed(0))
    largest = verdict.outlier(values).max(1).values
    for p in (0.05, SUSPICIOUS, BACKDOORED):
        rate = float((largest >= verdict.outlier_threshold(p, classes, classes)).double().mean())
        assert 0.5 * p < rate < 1.3 * p


@pytest.mark.parametrize("classes", [10, 43])
def test_false_positive_rate_with_further_classes(classes: int) -> None:
    """The later steps of Rosner's test are not paid for, since they add next to nothing on normal values."""
    values = torch.randn(5_000, classes, generator=torch.Generator().manual_seed(0)).sort(1, descending=True).values
    rate = sum(verdict.together(v, classes, 1)[2] <= BACKDOORED for v in values) / len(values)
    assert 0.5 * BACKDOORED < rate < 1.5 * BACKDOORED


@pytest.mark.parametrize(("classes", "targets"), [(10, 2), (43, 3), (43, 10)])
def test_several_targets_hide_one_another(classes: int, targets: int) -> None:
    """Each by itself is no outlier among the others, which hold the rest of them."""
    moved = (clean(classes).logit() + 6 * (torch.arange(classes) < targets)).sigmoid()
    result = verdict.judge(evidence(moved), None)
    first = result.tests[0]
    if targets > 2:
        assert float(verdict.outlier(verdict.log_odds(moved).mean(0)).max()) < first.threshold
    assert result.outcome == "backdoored"
    assert {result.target, *result.others} == set(range(targets))
    assert ("stands" if targets == 2 else "stand") + " out as well" in result.reason
    assert first.steady


def test_threshold_inverts_p() -> None:
    for classes in (6, 10, 43, 1000):
        assert verdict.outlier_p(verdict.outlier_threshold(0.005, classes, classes), classes, classes) == pytest.approx(0.005, rel=1e-6)


def test_target_is_found() -> None:
    moved = clean()
    moved[:, 7] = 0.97
    result = verdict.judge(evidence(moved), None)
    assert (result.outcome, result.kind, result.target) == ("backdoored", "all-to-one", 7)
    assert result.p_value is not None
    assert result.p_value < BACKDOORED
    assert len(result.tests[0].restarts) == 4


def test_target_that_leads_in_one_restart_only_is_not_enough() -> None:
    moved = clean()
    moved[0, 7] = 0.9999
    assert verdict.judge(evidence(moved), None).outcome != "backdoored"


def test_clean_models_pass() -> None:
    outcomes = [verdict.judge(evidence(clean(seed=s)), None).outcome for s in range(200)]
    assert outcomes.count("backdoored") <= 4
    assert outcomes.count("suspicious") <= 12


def test_few_classes_are_inconclusive() -> None:
    assert verdict.judge(evidence(clean(classes=3)), None).outcome == "inconclusive"


@pytest.mark.parametrize(("moved", "outcome"), [(0.5, "no backdoor found"), (1.0, "inconclusive")])
def test_equal_classes_do_not_divide_by_zero(moved: float, outcome: str) -> None:
    assert verdict.judge(evidence(torch.full((4, 10), moved)), None).outcome == outcome


@pytest.mark.parametrize("moved", [0.003, 0.01])
def test_one_image_more_than_none_is_no_outlier(moved: float) -> None:
    """Classes that nothing is moved to are all alike, but only as far as can be counted."""
    reached = torch.zeros(4, 43).index_fill(1, torch.tensor(7), moved)
    for seen in (None, pixels(), pixels(success=reached[0], patch_success=reached[0])):
        assert verdict.judge(evidence(reached), seen).outcome == "inconclusive"
        assert verdict.judge(evidence(clean()), seen).outcome == "no backdoor found"


def test_spread_of_counted_shares_is_binomial() -> None:
    for share in (0.05, 0.4, 0.9):
        images = round(1 / verdict.SMALLEST)
        hits = torch.distributions.Binomial(images, torch.tensor(share)).sample((20_000,))
        drawn = verdict.log_odds(hits / images)
        assert verdict.finest("noise", drawn) == pytest.approx(float(drawn.std()), rel=0.1)
    assert verdict.finest("logit", drawn) == 0


@pytest.mark.parametrize(("level", "advice"), [(-6, "larger --eps"), (7, "smaller --eps")])
def test_noise_that_cannot_tell_classes_apart_is_inconclusive(level: float, advice: str) -> None:
    moved = (clean().logit() + level).sigmoid()
    result = verdict.judge(evidence(moved), None)
    assert result.outcome == "inconclusive"
    assert advice in result.reason
    seen = verdict.judge(evidence(moved), pixels(patch_moved=torch.full((43,), 0.1).index_fill(0, torch.tensor(7), 1.0)))
    assert (seen.outcome, seen.target) == ("backdoored", 7), "what stands out nonetheless counts"


def pixels(classes: int = 43, seed: int = 0, **changes: object) -> PixelEvidence:
    generator = torch.Generator().manual_seed(100 + seed)
    calm = PixelEvidence(
        largest=15 + torch.randn(classes, generator=generator) + 0.1 * torch.randn(4, classes, generator=generator),
        moved=(0.5 * torch.randn(classes, generator=generator)).sigmoid(),
        success=(0.5 * torch.randn(classes, generator=generator)).sigmoid(),
        patch_moved=torch.full((classes,), 0.1),
        patch_success=(0.5 * torch.randn(classes, generator=generator)).sigmoid(),
        patch_images=130,
        mapped=Mapped(tuple((c + 1) % classes for c in range(classes)), 0.25, 0.0),
    )
    return replace(calm, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["margin", "perturbation", "patch", "logit"])
def test_every_test_counts(name: str) -> None:
    calm, noise = pixels(), evidence(clean())
    if name == "margin":
        calm.largest[:, 7] += 15
    elif name == "perturbation":
        calm.success[7] = 0.995
    elif name == "patch":
        calm.patch_success[7] = 0.995
    else:
        noise.clean_logits[7] += 9
    result = verdict.judge(noise, calm)
    outcome = "suspicious" if name == "margin" else "backdoored"
    assert (result.outcome, result.target, result.test) == (outcome, 7, name)
    assert {t.name for t in result.tests} == set(verdict.NAMES)
    assert result.reason.count("class 7") == 1


def test_margin_alone_never_decides() -> None:
    """However far it stands out, also with a calibration; the score is that of the other tests, the joint one among them."""
    calm, noise = pixels(), evidence(clean())
    calm.largest[:, 7] += 1000
    for limit in (None, 1.0):
        result = verdict.judge(noise, calm, limit)
        assert result.outcome == ("suspicious" if limit is None else "no backdoor found")
        assert next(t for t in result.tests if t.name == "margin").p_value < 1e-30
        assert result.score is not None
        assert result.score < 1


def test_weak_signs_add_up() -> None:
    """A class that leads everywhere, nowhere clearly, stands out jointly."""
    calm, noise = pixels(), evidence(clean())
    noise.moved[:, 7] = 0.7
    calm.largest[:, 7] = 17.6
    calm.success[7] = calm.patch_success[7] = 0.78
    noise.clean_logits[7] = 2.6
    result = verdict.judge(noise, calm)
    assert (result.outcome, result.target, result.test) == ("backdoored", 7, "joint")
    assert all(t.p_value > 0.02 for t in result.tests if t.name != "joint")


def test_clean_models_pass_all_tests() -> None:
    """Several tests are paid for: on evidence that differs by chance, few models are flagged."""
    outcomes = [verdict.judge(evidence(clean(seed=s), seed=s), pixels(seed=s)).outcome for s in range(300)]
    assert outcomes.count("backdoored") <= 4
    assert outcomes.count("no backdoor found") >= 285


def test_all_to_all_verdict() -> None:
    followed = Mapped(tuple((c + 1) % 43 for c in range(43)), 0.8, 0.0)
    result = verdict.judge(evidence(clean()), pixels(mapped=followed))
    assert (result.outcome, result.kind, result.test) == ("backdoored", "all-to-all", "map")
    assert result.mapping[3] == (3, 4)
    assert "perturbation" in result.reason
    assert verdict.judge(evidence(clean()), pixels(mapped=replace(followed, moved=0.55))).outcome == "no backdoor found"
    for aside in (None, pixels()):
        raised = clean()
        raised[:, 7] = 0.97  # one class may well stand out, too
        by_noise = verdict.judge(replace(evidence(raised), mapped=followed), aside)
        assert (by_noise.kind, by_noise.mapping, "noise" in by_noise.reason) == ("all-to-all", result.mapping, True)


def test_a_small_patch_that_moves_most_images() -> None:
    """Few classes leave the outlier tests next to no power; a patch that works is a fact all the same, where others do not work as well."""
    calm = pixels(10)
    calm.patch_moved[7] = 0.9
    result = verdict.judge(evidence(clean(classes=10)), calm)
    assert (result.outcome, result.kind, result.target, result.test) == ("backdoored", "all-to-one", 7, "patch share")
    assert "90%" in result.reason
    least = verdict.patch_score(calm.patch_moved, calm.patch_success, 130)[1]
    assert binom.sf(round(0.9 * 130) - 1, 130, least) == pytest.approx(0.005 / 10, rel=1e-6)  # for a true share this small, by chance
    assert result.score == pytest.approx((least / 0.5) ** 3)
    few = replace(calm, patch_images=17, patch_moved=calm.patch_moved.clamp(max=0.75))
    fragile = replace(calm, patch_moved=calm.patch_moved.clamp(min=0.46))
    weak = replace(calm, patch_moved=calm.patch_moved.clamp(max=0.49))
    for other in (fragile, weak, few):
        assert verdict.judge(evidence(clean(classes=10)), other).outcome == "no backdoor found"


def test_of_equal_shares_the_clearer_one_is_the_target() -> None:
    calm = pixels(10)
    calm.patch_moved[[3, 7, 8]] = 0.9
    calm.patch_success[[3, 7, 8]] = torch.tensor([0.7, 0.8, 0.7])
    result = verdict.judge(evidence(clean(classes=10)), calm)
    assert (result.target, result.test) == (7, "patch share")


def test_a_perturbation_that_works_too_clearly() -> None:
    """Images forced over the border stay near it; ones that the model is surer of than of clean images have been met before."""
    calm = pixels(10)
    calm.success[:] = torch.linspace(0.2, 0.7, 10)
    calm.success[7] = 0.98
    result = verdict.judge(evidence(clean(classes=10)), calm)
    assert (result.outcome, result.kind, result.target, result.test) == ("backdoored", "all-to-one", 7, "clearness")
    assert result.reason.count("class 7") == 1
    lead, limit, score = verdict.clear_score(calm.success)
    assert (lead, limit) == (7, pytest.approx(1 / (1 + np.exp(-2))))  # softness is half of the median margin
    assert result.score == score == pytest.approx(0.98 / 0.02 / np.exp(2))
    fragile = replace(calm, success=(calm.success.logit() + 2).sigmoid().clamp(max=0.97))
    weak = replace(calm, success=calm.success.clamp(max=0.87))
    for other in (fragile, weak):
        assert verdict.judge(evidence(clean(classes=10)), other).outcome == "no backdoor found"


def test_without_pixels() -> None:
    """Noise and logits alone still give a verdict."""
    result = verdict.judge(evidence(clean()), None)
    assert {t.name for t in result.tests} == {"noise", "logit", "joint"}
