"""What a reader is told of the copies that were scanned beside a model."""

from types import SimpleNamespace
from typing import Any

import pytest

from banscan.scanner.findings import Controls, Copy
from banscan.scanner.report import copies

PLANTED: dict[str, Any] = {"trigger": "patch", "target": 3, "asr": 0.95, "accuracy": (0.9, 0.88), "outcome": "backdoored", "targets": (3,)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "found"),
        ({"targets": (4,)}, "missed"),
        ({"outcome": "no backdoor found", "targets": ()}, "missed"),
        ({"asr": 0.85}, "does not count: ASR below 90%"),
        ({"accuracy": (0.9, 0.7)}, "does not count: accuracy fell by over 10 points"),
        ({"trigger": None, "asr": None}, "called as well"),
        ({"trigger": None, "asr": None, "outcome": "no backdoor found", "targets": ()}, "not called"),
        ({"trigger": None, "asr": None, "outcome": "inconclusive", "targets": ()}, "says nothing"),
        ({"trigger": None, "asr": None, "accuracy": (0.9, 0.5)}, "does not count: accuracy fell by over 10 points"),
        ({"outcome": None, "not_done": "too few images"}, ""),
    ],
)
def test_why_a_copy_counts_or_not(changed: dict[str, Any], said: str) -> None:
    report: Any = SimpleNamespace(controls=Controls((Copy(**PLANTED | changed),)))
    (row,) = copies.rows(report)
    assert row[-1] == said


@pytest.mark.parametrize(
    ("standing", "idle"), [(None, False), (SimpleNamespace(uncovered="two classes"), False), (SimpleNamespace(uncovered=None), True)]
)
def test_a_verdict_that_does_not_rest_on_copies_says_so(standing: object, idle: bool) -> None:
    report: Any = SimpleNamespace(standing=standing)
    assert copies.title(report) == (f"{copies.TITLE}; {copies.IDLE}" if idle else copies.TITLE)
