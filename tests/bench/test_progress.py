"""What is kept of the time left, and when it is near."""

from pathlib import Path

import pytest

from bench import progress, rows


def test_time_goes_on_between_two_words() -> None:
    watch = progress.Watch()
    watch.told = [(1.0, None), (2.0, 10.0), (4.0, 3.0)]
    assert [watch.left(at) for at in (0.5, 1.5, 2.0, 3.0, 4.5, 9.0)] == [None, None, 10.0, 9.0, 2.5, 0.0]


def test_near_is_within_a_third() -> None:
    row = {"subject": "clean", "machine": {"threads": 2}, "load": 1.0, "seconds": 10.0, "told": [10.0, 4.1, None, 2.6]}
    assert progress.table([row]).splitlines()[2] == "| clean, 2 | 1.0 | 10.0 | 10.0 (8.0) | 4.1 (6.0) | – (4.0) | 2.6 (2.0) | 3 of 4 |"


@pytest.mark.parametrize("row", rows.read(Path(__file__).parents[2] / "bench" / "results" / "progress.jsonl"))
def test_stored_rows_are_whole(row: dict[str, object]) -> None:
    assert row["subject"] in progress.SUBJECTS
    assert len(row["told"]) == len(progress.FIFTHS)  # type: ignore[arg-type]
