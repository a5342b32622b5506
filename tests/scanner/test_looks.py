"""A first look, and what it takes for a whole search to follow."""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from banscan.scanner import looks
from banscan.scanner.criteria import outlier, registry
from banscan.scanner.criteria.share import NEAR, odds
from banscan.scanner.effort import FIRST_LOOK, WHOLE
from banscan.scanner.findings import Finding
from banscan.scanner.levels import BACKDOORED, Levels
from banscan.scanner.looks import TESTS, Looked, close, paid, unverified
from banscan.scanner.machine.progress import silent
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.search.transforms import Transformed
from banscan.scanner.subject import Subject
from tests.scanner.measured import clean, findings, neurons, pixels

CLASSES = 43
USUAL = Levels()
FAMILY = "one shift of all colours"


def seen(classes: int = CLASSES, **more: Any) -> tuple[Finding, ...]:
    return findings(neurons(clean(classes)), pixels(classes, **more), USUAL)


def mapped(share: float) -> tuple[Mapped, None]:
    return Mapped(tuple((c + 1) % CLASSES for c in range(CLASSES)), share), None


def led(share: float) -> torch.Tensor:
    """How clearly perturbations move images to each class, class 3 this share."""
    return pixels(CLASSES)["success"].index_fill(0, torch.tensor(3), share)


def test_what_no_test_and_no_limit_is_near_to_is_left() -> None:
    found = seen()
    assert all(f.p_value is None or f.p_value == 1 for f in found)
    assert close(found, found, tests=True, limits=True) == frozenset()


def test_a_class_that_may_stand_out_asks_for_all_tests() -> None:
    found = seen(success=led(0.85))
    (p,) = (f.p_value for f in found if f.criterion == "perturbation")
    assert p is not None
    assert BACKDOORED < p < 1
    assert close(found, found, tests=True, limits=True) >= TESTS >= {"noise", "patch"}


def test_a_limit_that_is_close_asks_for_its_own_search() -> None:
    assert close(*2 * (seen(pixel_map=mapped(0.5)),), tests=True, limits=True) == {"pixel map"}
    assert close(*2 * (seen(pixel_map=mapped(0.4)),), tests=True, limits=True) == frozenset()
    patched = torch.full((CLASSES,), 0.1).index_fill(0, torch.tensor(3), 0.5)
    assert close(*2 * (seen(patched=patched),), tests=True, limits=True) == {"patch"}


def test_a_backdoor_asks_for_nothing_more() -> None:
    for found in (seen(success=led(0.9999)), seen(pixel_map=mapped(0.8))):
        assert any(f.exceeds for f in found)
        assert close(found, found, tests=True, limits=True) == frozenset()


def test_a_limit_that_needs_a_control_leaves_the_tests_open() -> None:
    """The control may say that it is natural."""
    found = seen(success=led(0.85), pixel_map=mapped(0.8))
    assert close(found, found, tests=True, limits=False) == {*TESTS, "pixel map"}
    assert close(found, found, tests=True, limits=True) == frozenset()


def test_what_exceeds_is_searched_whole_where_a_control_follows() -> None:
    found = seen(pixel_map=mapped(0.8))
    assert unverified(found, limits=False) == {"pixel map"}
    assert unverified(found, limits=True) == frozenset()


def test_a_test_that_decides_nothing_leaves_the_limits_open() -> None:
    """Of a kind of model that nobody measured clean ones of, limits and their controls decide."""
    found = seen(success=led(0.9999), pixel_map=mapped(0.5))
    assert close(found, found, tests=True, limits=False) == frozenset()
    assert close(found, found, tests=False, limits=False) == {*TESTS, "pixel map"}


def test_a_change_of_the_whole_image_is_always_seen_whole() -> None:
    """The first look does not ask how well the other classes are reached."""
    found = seen(transform=(Transformed(FAMILY, 3, 240, 240, 0.0),))
    assert any(f.exceeds for f in found)
    assert unverified(found, limits=True) == {"transform"}
    assert close(found, found, tests=True, limits=True) == {"transform"}


@pytest.mark.parametrize(
    ("effort", "shown", "expected"),
    [
        ("quick", (0.5,), [(FIRST_LOOK, None)]),
        ("thorough", (0.5,), [(WHOLE, None)]),
        ("standard", (0.2,), [(FIRST_LOOK, None)]),
        ("standard", (0.9,), [(FIRST_LOOK, None)]),
        ("standard", (0.5, 0.55), [(FIRST_LOOK, None), (WHOLE, {"pixel map"})]),
    ],
)
def test_looks_as_often_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, effort: str, shown: tuple[float, ...], expected: list[tuple[Any, Any]]
) -> None:
    asked: list[tuple[Any, Any]] = []
    divided: list[int] = []
    known = {share: seen(pixel_map=mapped(share)) for share in shown}

    def measure(subject: Any, measured: dict[str, Any], progress: Any, stage: Any, only: Any = None) -> None:
        measured["pixel map"] = shown[len(asked)]
        asked.append((subject, only))

    def found(measured: dict[str, Any], searched: Any, classes: int, levels: Levels, part: Callable[[str], int]) -> tuple[Finding, ...]:
        divided.append(part("pixel map"))
        return known[measured["pixel map"]]

    monkeypatch.setattr(registry, "measure", measure)
    monkeypatch.setattr(registry, "findings", found)
    settings = SimpleNamespace(effort=effort)
    subject = SimpleNamespace(
        settings=settings, searched=torch.arange(CLASSES), classes=CLASSES, costly=False, searched_by=lambda effort: effort
    )
    looked = Looked()
    looks.search(cast(Subject, subject), USUAL, looked, silent, lambda name: nullcontext(), limits=True)
    final = looks.told(cast(Subject, subject), USUAL, looked)
    assert asked == expected
    assert divided[-1] == (1 if effort != "standard" else looks.LATE if len(shown) > 1 else looks.EARLY)
    assert next(f.value for f in final if f.criterion == "pixel map") == shown[-1]
    assert looked.whole == (("pixel map",) if (effort != "quick" and len(shown) > 1) or effort == "thorough" else ())


def test_two_looks_have_the_level_of_one() -> None:
    """Both looks at a model whose classes differ only by chance, the worst case of two that have nothing in common."""
    generator, models = torch.Generator().manual_seed(0), 3000
    called = 0
    for _ in range(models):
        values = torch.randn(2, 20, generator=generator, dtype=torch.float64)
        # one test alone has the whole level here
        ps = [outlier.together(row.__getitem__, 20, 20, part)[2] for row, part in zip(values, (looks.EARLY, looks.LATE), strict=True)]
        called += min(ps) <= 0.05
    assert called / models < 0.04


def test_what_is_just_enough_for_a_whole_search_is_searched_again() -> None:
    """A first look has the smallest part of the level."""
    measured = neurons(clean(CLASSES)), pixels(CLASSES, success=led(0.94)), USUAL
    early, late = findings(*measured, lambda name: looks.EARLY), findings(*measured, lambda name: looks.LATE)
    assert any(f.exceeds for f in late if f.p_value is not None)
    assert not any(f.exceeds for f in early if f.p_value is not None)
    assert close(early, late, tests=True, limits=False) >= TESTS


def test_what_a_second_look_read_anew_has_its_level() -> None:
    assert paid("joint", "standard", ()) == paid("patch share", "standard", ()) == looks.EARLY
    assert paid("joint", "standard", TESTS - {"patch"}) == looks.EARLY
    assert paid("joint", "standard", TESTS) == paid("patch share", "standard", TESTS) == looks.LATE
    assert paid("noise", "quick", ()) == paid("noise", "thorough", ()) == 1
    # the logit is asked once, by all images
    assert paid("logit", "standard", ()) == looks.LATE


def test_odds_are_compared_and_not_shares() -> None:
    assert odds(0.5) == 1
    assert NEAR * odds(0.6) == pytest.approx(odds(3 / 7))
