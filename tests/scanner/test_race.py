"""A race among many classes: the level of tests that compare with a sample, what they still see, and which classes are searched for."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from banscan.scanner import race
from banscan.scanner.criteria import joint, outlier
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.effort import FIRST_LOOK, GLANCE, WHOLE
from banscan.scanner.extent import Extent
from banscan.scanner.levels import BACKDOORED, SUSPICIOUS
from banscan.scanner.machine.progress import silent
from banscan.scanner.search import patch
from banscan.scanner.search.patch import Patches, Rung
from banscan.scanner.settings import Settings
from banscan.scanner.subject import Subject, sample, together

CLASSES, TARGET = 100, 7
NAMES = ("noise", "logit", "margin", "perturbation", "patch")
# of them the values of the classes that a short look sees something of
SEEN = [1, 3, 4]


def values(kind: str, rows: int, generator: torch.Generator) -> Tensor:
    """Values [rows, CLASSES] of variance 1, of classes that differ by chance: normal, or with the tails of Student's t with 8 degrees."""
    normal = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64)
    if kind == "normal":
        return normal
    others = torch.randn(8, rows, CLASSES, generator=generator, dtype=torch.float64).square().mean(0)
    return normal / others.sqrt() * (6 / 8) ** 0.5


def model(kind: str, rung: float, generator: torch.Generator, planted: float = 0.0) -> tuple[Tensor, Tensor]:
    """What five tests would find of each class [5, C], a part of it in common, and what a short look sees [3, C], as like it as `rung`."""
    found = 0.7**0.5 * values(kind, len(NAMES), generator) + 0.3**0.5 * values(kind, 1, generator)
    found[[0, 3, 4], TARGET] += planted
    return found, rung * found[SEEN] + (1 - rung**2) ** 0.5 * values(kind, len(SEEN), generator)


def chosen(short: Tensor, seed: int) -> tuple[Tensor, Tensor | None]:
    """The classes that a race searches for, and which of them were drawn."""
    return together(sample(CLASSES, race.DRAWN, seed), short.topk(race.FRONT).indices.flatten())


def p_values(found: Tensor, among: Tensor, drawn: Tensor | None) -> tuple[float, float, int]:
    """Of one test alone, of all together, and the class that these put in front."""
    own = found[:, among]
    alone = outlier.together(own[3].__getitem__, len(among), CLASSES, 1, drawn=drawn)[2]
    tests = {name: ClassValues(row[None], 0.0, row, drawn=drawn) for name, row in zip(NAMES, own, strict=True)}
    places, _, p = joint.standing_out(joint.together(tests), CLASSES, 1)
    return alone, p, int(among[places[0]])


def rates(kind: str, rung: float, models: int, *, whole: bool = False) -> Tensor:
    """How often clean models are suspicious by one test, and by the joint one."""
    generator = torch.Generator().manual_seed(0)
    called = torch.zeros(2)
    for seed in range(models):
        found, short = model(kind, rung, generator)
        among, drawn = (torch.arange(CLASSES), None) if whole else chosen(short, seed)
        called += torch.tensor(p_values(found, among, drawn)[:2]) <= SUSPICIOUS
    return called / models


@pytest.mark.slow
@pytest.mark.parametrize("rung", [0.0, 0.5, 0.95])
def test_false_positive_rate(rung: float) -> None:
    """Whatever the classes in front were chosen by, also by next to what the tests find, the level holds."""
    models = 2_000
    error = (SUSPICIOUS / models) ** 0.5
    assert bool((rates("normal", rung, models) <= SUSPICIOUS + 2 * error).all())


@pytest.mark.slow
def test_false_positive_rate_with_heavy_tails() -> None:
    """Where values are not normal no outlier test holds its level; a race misses it by no more than searches for every class do."""
    assert bool((rates("t", 0.95, 1_500) <= rates("t", 0.95, 1_500, whole=True) + 0.005).all())


def test_the_leaders_are_no_part_of_what_others_are_compared_with() -> None:
    """Taken out of the sample, or put into it, they would make it narrower or wider."""
    found = torch.tensor([0.0, 1.0, 2.0, 3.0, 9.0, 8.0], dtype=torch.float64)
    drawn = torch.tensor([True, True, True, True, True, False])
    statistic = outlier.outlier(found, drawn=drawn)
    assert float(statistic[4]) == pytest.approx(float(outlier.outlier(found[:5])[4]))
    alone = torch.cat([found[:5], found[5:]])
    assert float(statistic[5]) == pytest.approx(float(outlier.outlier(alone)[5]))
    everyone = torch.ones(6, dtype=torch.bool)
    assert torch.equal(outlier.outlier(found), outlier.outlier(found, drawn=everyone))


def test_a_planted_class_is_found() -> None:
    """Six deviations in three of five tests, which a short look sees a part of, lead by all together, whether it was drawn or not."""
    generator = torch.Generator().manual_seed(1)
    hits = 0
    for seed in range(40):
        found, short = model("normal", 0.8, generator, planted=6.0)
        among, drawn = chosen(short, seed)
        _, p, lead = p_values(found, among, drawn)
        hits += p <= BACKDOORED and lead == TARGET
    assert hits >= 36


def test_several_that_lead_do_not_hide_one_another() -> None:
    found, short = model("normal", 0.9, torch.Generator().manual_seed(2))
    targets = [7, 50, 90]
    found[:, targets] += 6
    short[:, targets] += 6
    among, drawn = chosen(short, 0)
    tests = {name: ClassValues(row[None], 0.0, row, drawn=drawn) for name, row in zip(NAMES, found[:, among], strict=True)}
    places, _, p = joint.standing_out(joint.together(tests), CLASSES, 2)
    assert set(among[list(places)].tolist()) <= set(targets)
    assert p < BACKDOORED


def subject(settings: Settings, logits: Tensor) -> Subject:
    labels = torch.arange(len(logits)) % CLASSES
    made = SimpleNamespace(classes=CLASSES, settings=settings, labels=labels, logits=logits, softness=1.0, misled="no gradient")
    pixels = torch.zeros(len(labels), 1, 1, 1)
    extent = Extent(len(labels), CLASSES, settings, GLANCE)
    made.pixel_model, made.pixels, made.effort, made.extent = None, pixels, GLANCE, extent
    made.altered = lambda **changes: SimpleNamespace(**(vars(made) | changes))
    return cast(Subject, made)


def test_who_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample by the seed, and the first by every way to look; the patches that were tried go with them."""
    reached = torch.zeros(4, CLASSES)
    reached[2, 77] = 1.0
    empty = torch.zeros(4)
    patches = Patches(*([empty] * 6))
    monkeypatch.setattr(patch, "first_rung", lambda *given, **more: Rung(patches, reached))
    logits = torch.randn(300, CLASSES, generator=torch.Generator().manual_seed(0))
    logits[:, 55] += 9
    done = race.raced(subject(Settings(), logits), silent)
    assert {55, 77} <= set(done.searched.tolist())
    assert done.drawn is not None
    assert done.searched[done.drawn].tolist() == sample(CLASSES, race.DRAWN, 0).sort().values.tolist()
    assert len(done.searched) <= race.most(CLASSES, Settings())
    assert done.rung is not None
    assert done.rung.reached.shape == (4, len(done.searched))
    assert float(done.rung.reached[2].max()) == 1.0


@pytest.mark.parametrize(
    ("classes", "more", "expected"),
    [(43, {}, 43), (64, {}, 64), (65, {}, 41), (1000, {}, 41), (1000, {"effort": "thorough"}, 100), (100, {"pixels": False}, 100)],
)
def test_where_there_is_a_race(classes: int, more: dict[str, Any], expected: int) -> None:
    settings = Settings(**more)
    assert race.most(classes, settings) == expected
    assert bool(race.work(Extent(500, classes, settings, FIRST_LOOK), classes)) == (expected == 41)


def test_a_glance_is_less_than_a_first_look() -> None:
    for targets in (41, 100):
        glance, first, whole = (patch.passes(targets, 333, effort.patches) for effort in (GLANCE, FIRST_LOOK, WHOLE))
        assert glance < 0.7 * first < first < whole
