"""The outlier test: its formula and its false-positive rate."""

import numpy as np
import pytest
import torch

from banscan.scanner.criteria import outlier
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


def test_threshold_inverts_p() -> None:
    for classes in (6, 10, 43, 1000):
        assert outlier.outlier_p(outlier.outlier_threshold(0.005, classes, classes), classes, classes) == pytest.approx(0.005, rel=1e-6)


def test_spread_of_counted_shares_is_binomial() -> None:
    for share in (0.05, 0.4, 0.9):
        images = round(1 / outlier.SMALLEST)
        hits = torch.distributions.Binomial(images, torch.tensor(share)).sample((20_000,))
        drawn = outlier.log_odds(hits / images)
        assert outlier.finest(drawn) == pytest.approx(float(drawn.std()), rel=0.1)
