"""Mutants that were once handled wrongly (`make fuzz`): each is refused in a sentence, or read as its own runtime computes it."""

from pathlib import Path

import pytest

from bench.fuzz import trial

MUTANTS = sorted((Path(__file__).parent / "mutants").iterdir())


@pytest.mark.parametrize("path", MUTANTS, ids=lambda path: path.name)
def test_the_outcome_is_sound(path: Path) -> None:
    what, text = trial.outcome(path.name.partition("-")[0], path)
    assert what not in trial.FAULTS, text
