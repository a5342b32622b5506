"""The outlier test: its formula and its false-positive rate."""

import numpy as np
import pytest
import torch

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.spread import UNKNOWN, Spread
from banscan.scanner.levels import BACKDOORED, SUSPICIOUS


def test_statistic_is_the_deleted_residual() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 3.0, 9.0])
    rest = np.array([1.0, 2.0, 4.0, 3.0])
    expected = (9 - rest.mean()) / (rest.std(ddof=1) * np.sqrt(1 + 1 / 4))
    assert float(outlier.outlier(values)[4]) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [10, 43, 200])
def test_false_positive_rate(classes: int) -> None:
    """On normal values the p-value keeps its promise."""
    values = torch.randn(20_000, classes, generator=torch.Generator().manual_seed(0))
    largest = outlier.outlier(values).max(1).values
    for p in (0.05, SUSPICIOUS, BACKDOORED):
        rate = float((largest >= outlier.outlier_threshold(p, classes, classes)).double().mean())
        assert 0.5 * p < rate < 1.3 * p


@pytest.mark.slow
@pytest.mark.parametrize("classes", [10, 43])
def test_false_positive_rate_with_further_classes(classes: int) -> None:
    """The later steps of Rosner's test are not paid for, since they add next to nothing on normal values."""
    values = torch.randn(5_000, classes, generator=torch.Generator().manual_seed(0))
    rate = sum(outlier.together(v.__getitem__, classes, classes, 1)[2] <= BACKDOORED for v in values) / len(values)
    assert 0.5 * BACKDOORED < rate < 1.5 * BACKDOORED


@pytest.mark.parametrize("spread", [UNKNOWN, Spread(3.0, 0.5)])
def test_threshold_inverts_p(spread: Spread) -> None:
    for classes in (6, 10, 43, 1000):
        threshold = outlier.outlier_threshold(0.005, classes, classes, spread)
        assert outlier.outlier_p(threshold, classes, classes, spread) == pytest.approx(0.005, rel=1e-6)


def test_what_is_known_of_the_spread_counts_as_so_many_values() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 3.0, 9.0])
    rest = np.array([1.0, 2.0, 4.0, 3.0])
    variance = (3 * rest.var(ddof=1) + 5 * 0.7**2) / (3 + 5)
    expected = (9 - rest.mean()) / np.sqrt(variance * (1 + 1 / 4))
    assert float(outlier.outlier(values, spread=Spread(5.0, 0.7))[4]) == pytest.approx(expected)


def test_models_that_differ_in_spread_keep_the_level_and_show_more() -> None:
    """Ten classes, whose spread differs from model to model as much as is known: the p-value keeps its promise, outliers are seen more."""
    generator = torch.Generator().manual_seed(0)
    known = Spread(4.0, 0.5)
    deviations = 0.5 * torch.from_numpy((4.0 / np.random.default_rng(0).chisquare(4.0, 20_000)) ** 0.5)
    values = torch.randn(20_000, 10, generator=generator, dtype=torch.float64) * deviations[:, None]
    statistic = outlier.outlier(values, spread=known)
    for p in (SUSPICIOUS, BACKDOORED):
        rate = float((statistic.max(1).values >= outlier.outlier_threshold(p, 10, 10, known)).double().mean())
        assert 0.5 * p < rate < 1.3 * p
    planted = values.clone()
    planted[:, 3] += 4
    seen = [
        float((outlier.outlier(planted, spread=s)[:, 3] >= outlier.outlier_threshold(BACKDOORED, 10, 10, s)).double().mean())
        for s in (UNKNOWN, known)
    ]
    assert seen[1] > seen[0] + 0.05


def test_spread_of_counted_shares_is_binomial() -> None:
    for share in (0.05, 0.4, 0.9):
        images = round(1 / outlier.SMALLEST)
        hits = torch.distributions.Binomial(images, torch.tensor(share)).sample((20_000,))
        drawn = outlier.log_odds(hits / images)
        assert outlier.finest(drawn) == pytest.approx(float(drawn.std()), rel=0.1)
