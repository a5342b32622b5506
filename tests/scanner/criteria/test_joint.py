"""The joint test: its formula, its false-positive rate, and what it sees."""

import numpy as np
import pytest
import torch
from scipy.stats import combine_pvalues, norm, t

from banscan.scanner.criteria import joint
from banscan.scanner.criteria.outlier import ClassValues, outlier
from banscan.scanner.levels import BACKDOORED

NAMES = ("noise", "logit", "margin", "perturbation", "patch")
TESTS = len(NAMES)


def together(values: torch.Tensor) -> joint.Together:
    """The measurement of tests' values [n, T]."""
    return joint.together(dict(zip(NAMES, [ClassValues(row[None], 0.0, row) for row in values], strict=True)))


def drawn(classes: int, models: int, shared: float = 0.0) -> torch.Tensor:
    """Normal values [models, TESTS, classes]; a part of their variance is the same in all tests."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(models, TESTS, classes, generator=generator, dtype=torch.float64)
    common = torch.randn(models, 1, classes, generator=generator, dtype=torch.float64)
    return (1 - shared) ** 0.5 * own + shared**0.5 * common


def test_agreement_is_fishers_combination() -> None:
    values = drawn(12, 1)[0]
    residuals = outlier(values).numpy()
    each = t.sf(residuals, 10)
    each[2] = np.maximum(each[2], each[[0, 1, 3, 4]].min(0))
    expected = [norm.isf(combine_pvalues(each[:, c], "fisher").pvalue) for c in range(12)]
    assert together(values).shown.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "shared"), [(6, 0.0), (10, 0.0), (43, 0.0), (10, 0.3), (43, 0.3)])
def test_false_positive_rate(classes: int, shared: float) -> None:
    """The first step keeps its promise, and misses it by less than half of the level where all tests depend on one another."""
    values = drawn(classes, 8_000, shared)
    rate = 0
    for model in values.split(1000):
        each = torch.stack([together(v).shown for v in model])
        statistic = outlier(each).max(1).values.numpy()
        rate += int((classes * t.sf(statistic, classes - 2) <= 0.02).sum())
    assert 0.5 * 0.02 < rate / len(values) < 1.75 * 0.02


def test_two_tests_that_agree_are_enough() -> None:
    """A class at 4.2 deviations in two of five tests, which is enough in neither of them."""
    values = drawn(43, 1)[0]
    values[:2, 7] = 4.2
    (place,), _, p = joint.standing_out(together(values), 43, 2)
    alone = 2 * TESTS * 43 * t.sf(outlier(values)[:2, 7].numpy(), 41)
    assert place == 7
    assert p < BACKDOORED < alone.min()


def test_targets_do_not_hide_one_another() -> None:
    values = drawn(43, 1)[0]
    targets = [3, 8, 21, 30, 33, 40]
    values[:, targets] += 5
    places, _, p = joint.standing_out(together(values), 43, 2)
    assert sorted(places) == targets
    assert p < BACKDOORED


def test_extreme_values_stay_finite() -> None:
    values = drawn(10, 1)[0]
    values[:, 4] = 1e9
    values[:, 5] = -1e9
    assert bool(together(values).shown.isfinite().all())
    assert joint.standing_out(together(values), 10, 2)[0] == (4,)


def test_a_test_that_never_decides_alone_does_not_decide_through_the_joint_one() -> None:
    values = drawn(43, 1)[0]
    values[NAMES.index("margin"), 7] = 1e3
    assert joint.standing_out(together(values), 43, 2)[2] > 0.05
