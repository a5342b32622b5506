"""The outlier test: its formula, its false-positive rate, what it decides."""

import numpy as np
import pytest
import torch

from banscan.scanner import verdict
from banscan.scanner.evidence import Evidence
from banscan.scanner.verdict import BACKDOORED, SUSPICIOUS


def evidence(moved: torch.Tensor) -> Evidence:
    restarts, classes = moved.shape
    table = torch.zeros(restarts, classes, classes)
    return Evidence(
        eps=0.2,
        targets=torch.arange(classes),
        margins=table,
        moved=moved,
        clean_margins=table[0],
        clean_shares=torch.full((classes,), 1 / classes),
        noisy_shares=torch.full((restarts, classes), 1 / classes),
        noisy_accuracy=torch.full((restarts,), 0.5),
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


def test_threshold_inverts_p() -> None:
    for classes in (6, 10, 43, 1000):
        assert verdict.outlier_p(verdict.outlier_threshold(0.005, classes, classes), classes, classes) == pytest.approx(0.005, rel=1e-6)


def test_target_is_found() -> None:
    moved = clean()
    moved[:, 7] = 0.97
    result = verdict.judge(evidence(moved))
    assert (result.outcome, result.kind, result.target) == ("backdoored", "all-to-one", 7)
    assert result.p_value is not None
    assert result.p_value < BACKDOORED
    assert len(result.restarts) == 4


def test_target_that_leads_in_one_restart_only_is_not_enough() -> None:
    moved = clean()
    moved[0, 7] = 0.9999
    assert verdict.judge(evidence(moved)).outcome != "backdoored"


def test_clean_models_pass() -> None:
    outcomes = [verdict.judge(evidence(clean(seed=s))).outcome for s in range(200)]
    assert outcomes.count("backdoored") <= 4
    assert outcomes.count("suspicious") <= 12


def test_few_classes_are_inconclusive() -> None:
    assert verdict.judge(evidence(clean(classes=3))).outcome == "inconclusive"


def test_equal_classes_do_not_divide_by_zero() -> None:
    result = verdict.judge(evidence(torch.ones(4, 10)))
    assert result.outcome == "no backdoor found"


def map_table(shift: float, mutual: bool, seed: int = 0, classes: int = 20) -> torch.Tensor:
    """Margins with a bonus from every class to the next, or to its partner."""
    table = torch.randn(classes, classes, generator=torch.Generator().manual_seed(seed))
    for c in range(classes):
        table[c ^ 1 if mutual else (c + 1) % classes, c] += shift
    return table.fill_diagonal_(torch.nan)


def test_one_to_one_map_is_found() -> None:
    result = verdict.map_test(map_table(4.0, mutual=False))
    assert result is not None
    assert result.attacked == tuple((c + 1) % 20 for c in range(20))
    assert result.p_value < BACKDOORED
    assert result.mutual == 0


def test_likeness_is_mutual() -> None:
    result = verdict.map_test(map_table(4.0, mutual=True))
    assert result is not None
    assert result.mutual == 1


def test_chance_makes_no_map() -> None:
    p = [verdict.map_test(map_table(0.0, mutual=False, seed=s), shuffles=30).p_value for s in range(30)]  # type: ignore[union-attr]
    assert 0.3 < float(np.mean(p)) < 0.7


def test_all_to_all_verdict() -> None:
    from dataclasses import replace

    found = replace(evidence(clean(classes=20)), clean_margins=map_table(4.0, mutual=False))
    result = verdict.judge(found)
    assert (result.outcome, result.kind) == ("backdoored", "all-to-all")
    assert result.mapping[3] == (3, 4)
    likeness = replace(found, clean_margins=map_table(4.0, mutual=True))
    assert verdict.judge(likeness).outcome == "no backdoor found"
