"""How far values of clean models are spread: the fit, and that the scan has what it gives."""

from pathlib import Path

import numpy as np
import pytest

from banscan.scanner.criteria.spread import SPREADS
from bench import null, spread

ROWS = Path(__file__).parents[2] / "bench" / "results"
PARTS = ("effort", "small-tune", "large-tune", "conventions-scans")


def test_the_fit_finds_what_models_were_drawn_by() -> None:
    rng = np.random.default_rng(0)
    counts = rng.choice([10, 20, 43], 4000)
    variances = 0.5**2 * 4.0 / rng.chisquare(4.0, len(counts)) * rng.chisquare(counts - 1) / (counts - 1)
    found = spread.fitted(list(zip(counts.tolist(), variances.tolist(), strict=True)))
    assert found.freedom == pytest.approx(4.0, rel=0.1)
    assert found.deviation == pytest.approx(0.5, rel=0.03)


def test_models_of_one_spread_are_worth_many_values_and_not_endlessly_many() -> None:
    found = spread.fitted([(10, 0.25)] * 5)
    assert (found.freedom, found.deviation) == (spread.MOST, pytest.approx(0.5, rel=0.1))


def test_the_scan_has_what_the_rows_say() -> None:
    tests = spread.compared(null.clean(ROWS / f"{part}.jsonl" for part in PARTS))
    found = spread.spreads(tests)
    assert found.keys() == SPREADS.keys()
    for name, own in found.items():
        assert (SPREADS[name].freedom, SPREADS[name].deviation) == (
            pytest.approx(own.freedom, abs=0.06),
            pytest.approx(own.deviation, abs=0.006),
        )
