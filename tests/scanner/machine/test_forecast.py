"""The time left, on a clock that the tests set."""

import pytest

from banscan.scanner.machine.forecast import ANSWER, GRADIENT, LOOK, Forecast, Work, told
from banscan.scanner.machine.progress import Counter, of_part, silent

COSTS = {ANSWER: 1.0, LOOK: 0.5, GRADIENT: 1.0}
WORKS = (Work("a", ANSWER, 100), Work("b", GRADIENT, 200), Work("c", LOOK, 400))


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def begun(works: tuple[Work, ...] = WORKS) -> tuple[Forecast, Clock]:
    clock = Clock()
    forecast = Forecast(silent, clock)
    forecast.plan(works, COSTS)
    return forecast, clock


def work(forecast: Forecast, clock: Clock, of: Work, seconds: float, share: float = 1.0) -> None:
    """Some of a stage, ten steps of all of it, at so many seconds a pass."""
    count = Counter(forecast, of.stage, of.passes)
    for _ in range(round(10 * share)):
        clock.time += seconds * of.passes / 10
        count(of.passes // 10)


def test_a_kind_that_has_not_begun_is_reckoned_from_the_others() -> None:
    forecast, clock = begun()
    assert forecast.left() is None
    work(forecast, clock, WORKS[0], 0.01)
    assert forecast.left() == pytest.approx(200 * 0.01 + 400 * 0.005, rel=0.01)
    clock.time += 1
    assert forecast.left() == pytest.approx(3, rel=0.01)


def test_a_kind_that_was_measured_counts_as_measured() -> None:
    """However wrong its cost was."""
    forecast, clock = begun((*WORKS, Work("d", GRADIENT, 1000)))
    work(forecast, clock, WORKS[0], 0.01)
    work(forecast, clock, WORKS[1], 0.05)
    left = forecast.left()
    assert left is not None
    assert left > 1000 * 0.048


def test_what_is_done_or_left_out_is_left_no_more() -> None:
    forecast, clock = begun()
    work(forecast, clock, WORKS[0], 0.01)
    work(forecast, clock, WORKS[2], 0.02, 0.5)
    assert forecast.left() == pytest.approx(200 * 0.02, rel=0.1)
    Counter(forecast, "c", 400).end()
    assert forecast.left() == 0


def test_a_second_look_adds_its_work_and_says_so() -> None:
    forecast, clock = begun(WORKS[:1])
    work(forecast, clock, WORKS[0], 0.01)
    assert (forecast.left(), forecast.note) == (0, "")
    forecast.plan(WORKS[:1], COSTS, "again")
    assert forecast.note == "again"
    assert forecast.left() == pytest.approx(1, rel=0.01)


def test_nothing_is_said_without_a_basis() -> None:
    """Of what nobody planned, of a part of something longer, and before anything took time."""
    forecast, clock = begun()
    of_part(forecast)("a", 0, 100)
    assert forecast.works == WORKS
    assert not isinstance(of_part(forecast), Forecast)
    Counter(forecast, "a", 100)(1)
    assert forecast.left() is None
    work(forecast, clock, WORKS[0], 0.01)
    forecast("something else", 0, 1)
    assert forecast.left() is None


def test_more_passes_than_were_thought() -> None:
    seen: list[tuple[str, int, int]] = []
    count = Counter(lambda *step: seen.append(step), "a", 10)
    count(8)
    count(8)
    count.expect(40)
    count.end()
    assert seen == [("a", 0, 10), ("a", 8, 10), ("a", 16, 16), ("a", 16, 40), ("a", 16, 16)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "a few seconds left"),
        (4.9, "a few seconds left"),
        (42, "about 40 s left"),
        (57.4, "about 55 s left"),
        (58, "about 1 min left"),
        (3569, "about 59 min left"),
        (5400, "about 1.5 h left"),
    ],
)
def test_in_words(seconds: float, words: str) -> None:
    assert told(seconds) == words
