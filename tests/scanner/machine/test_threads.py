"""How many threads are taken in a container with a limit."""

import os
from pathlib import Path

import pytest

from banscan.scanner.machine import threads


@pytest.mark.parametrize("value", ["0", "-1", "abc", "", " ", "2.5", "1e3", "0x2", "99999999999999999999", "2,0", "4,", "\u0662", "\ud800"])
def test_what_is_no_number_of_threads_is_not_there(value: str) -> None:
    environment = {threads.NAME: value, "OTHER": value}
    threads.tidy(environment)
    assert environment == {"OTHER": value}


@pytest.mark.parametrize("value", ["1", " 2", "16", "4,2", "4, 2,1"])
def test_a_number_of_threads_stays(value: str) -> None:
    environment = {threads.NAME: value}
    threads.tidy(environment)
    assert environment == {threads.NAME: value}
    threads.tidy({})


@pytest.mark.parametrize(
    ("limit", "count"), [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 64), ("9900000 100000", 64)]
)
def test_limit_of_a_container(limit: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    monkeypatch.setattr(threads, "LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(threads, "LIMITS", (tmp_path / "quota", tmp_path / "period"))
    assert threads.allowed() == 64
    most, period = limit.split()
    for path, text in zip(threads.LIMITS, (most.replace("max", "-1"), period), strict=True):
        path.write_text(f"{text}\n")
    assert threads.allowed() == count
    threads.LIMIT.write_text(f"{limit}\n")
    assert threads.allowed() == count


def test_threads_that_wait_sleep_soon_unless_somebody_said_how() -> None:
    environment: dict[str, str] = {}
    threads.yielding(environment)
    assert environment == {"GOMP_SPINCOUNT": "1000"}
    for given in ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}):
        kept = dict(given)
        threads.yielding(kept)
        assert kept == given
