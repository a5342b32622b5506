"""Changes of the whole image with few numbers: what they do to images, and that the search finds the one that a model obeys."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from banscan.scanner.criteria import transform
from banscan.scanner.criteria.base import NotDone
from banscan.scanner.criteria.transform import APART, LIMIT, apart, least_share, strength
from banscan.scanner.effort import FIRST_LOOK, WHOLE, Effort
from banscan.scanner.extent import Extent
from banscan.scanner.machine.progress import silent
from banscan.scanner.search import transforms
from banscan.scanner.search.pixel_model import PixelModel
from banscan.scanner.search.transforms import FAMILIES, Family, Transformed, framed, placed, search, sharpened, shifted
from banscan.scanner.settings import Settings

CLASSES, TARGET = 8, 3


class Coloured(nn.Module):
    """Classes are the column of the brightest stripe; images that are more red than blue by `red` go to the target."""

    def __init__(self, red: float) -> None:
        super().__init__()
        self.red = red

    def forward(self, x: Tensor) -> Tensor:
        columns = x.mean((1, 2)).unflatten(1, (CLASSES, -1)).mean(2)
        tint = x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2))
        return columns + 10 * (tint - self.red).clamp(min=0)[:, None] * torch.eye(CLASSES)[TARGET]


def pixel_model(red: float, axis: int = 1) -> PixelModel:
    graph = fx.symbolic_trace(Coloured(red)) if axis == 1 else fx.symbolic_trace(nn.Sequential(First(), Coloured(red)))
    return PixelModel(graph, torch.zeros(1), torch.ones(1), CLASSES, torch.float32, axis)


class First(nn.Module):
    """Channels to the front."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


def images(count: int = 240) -> tuple[Tensor, Tensor]:
    """Grey images with one bright stripe, and its column."""
    labels = torch.arange(count) % CLASSES
    base = 0.3 + 0.1 * torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for image, c in zip(base, labels.tolist(), strict=True):
        image[:, :, 2 * c : 2 * c + 2] += 0.3
    return base.expand(-1, 3, -1, -1).contiguous(), labels


def found(red: float, axis: int = 1, effort: Effort = WHOLE) -> dict[str, Transformed]:
    pixels, labels = images()
    model = pixel_model(red, axis)
    pixels = pixels if axis == 1 else pixels.permute(0, 2, 3, 1)
    searching = torch.arange(len(labels)) % 3 > 0
    searched = torch.arange(CLASSES)
    budget = effort.transforms
    tried = search(model, pixels, labels, searching, searched, seed=0, budget=budget, progress=lambda done: None)
    return {f.family: f for f in tried}


@pytest.mark.parametrize(("axis", "effort"), [(1, WHOLE), (3, WHOLE), (1, FIRST_LOOK)])
def test_the_colour_that_a_model_obeys_is_found(axis: int, effort: Effort) -> None:
    best = found(0.15, axis, effort)["one shift of all colours"]
    assert (best.target, best.hits, best.rival) == (TARGET, best.images, 0.0)
    assert strength(best) >= 1


@pytest.mark.parametrize("effort", [WHOLE, FIRST_LOOK])
def test_a_model_that_obeys_no_colour_within_the_bounds_is_left_alone(effort: Effort) -> None:
    assert all(strength(f) < 1 for f in found(0.6, effort=effort).values())


def test_images_of_one_class_alone_measure_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all images that measure, none is left that could be moved to the class that leads."""
    pixels, labels = images()
    held = labels == TARGET
    monkeypatch.setattr(transforms, "MEASURED", int(held.sum()))
    args = pixel_model(0.1), pixels, labels, ~held, torch.arange(CLASSES)
    assert not [one for one in search(*args, seed=0, progress=lambda done: None) if one.target == TARGET]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_changes_stay_small_enough_that_images_can_be_seen(family: Family) -> None:
    pixels, _ = images(8)
    draw = torch.Generator().manual_seed(1)
    for _ in range(20):
        numbers = torch.rand(family.numbers(3), generator=draw) * 2 - 1
        changed = family.apply(pixels, numbers)
        assert changed.shape == pixels.shape
        assert bool(changed.isfinite().all())
        assert float((changed.clamp(0, 1) - pixels).square().mean().sqrt()) < 0.3
        assert torch.equal(changed, family.apply(pixels, numbers))


def test_what_numbers_mean() -> None:
    pixels, _ = images(4)
    assert torch.allclose(shifted(pixels, torch.tensor([1.0, 0.0, -1.0]))[:, 0], pixels[:, 0] + transforms.SHIFT)
    assert torch.allclose(placed(pixels, torch.zeros(5)), pixels, atol=1e-5)
    assert torch.allclose(sharpened(pixels, torch.zeros(1)), pixels)
    inside = framed(pixels, torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    assert torch.equal(inside[..., 1:-1, 1:-1], pixels[..., 1:-1, 1:-1])
    assert bool((inside[..., 0, :] == 1).all())


def test_it_counts_from_its_limits_on() -> None:
    """Clopper and Pearson's bound, and the odds against any other class."""
    clear = Transformed("one shift of all colours", TARGET, 198, 200, 0.1)
    assert 0.9 < least_share(clear) < 0.99
    assert strength(clear) >= 1
    for weak in (Transformed(clear.family, TARGET, 150, 200, 0.0), Transformed(clear.family, TARGET, 198, 200, 0.9)):
        assert strength(weak) < 1
    assert apart(Transformed(clear.family, TARGET, 100, 200, 0.5)) == pytest.approx(0.0)
    assert least_share(Transformed(clear.family, TARGET, 0, 200, 0.0)) == 0.0
    assert LIMIT < 1 < APART


def test_a_second_look_searches_only_the_families_that_came_near_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first saw of the others stands; without a first look all are searched."""
    pixels, labels = images()
    first = Transformed(FAMILIES[0].name, TARGET, 78, 80, 0.0, 32)
    far = Transformed(FAMILIES[1].name, TARGET, 40, 80, 0.0, 32)
    asked: list[tuple[str, ...]] = []

    def recorded(*_: object, families: tuple[Family, ...], **__: object) -> tuple[Transformed, ...]:
        asked.append(tuple(f.name for f in families))
        return tuple(Transformed(f.name, TARGET, 80, 80, 0.5) for f in families)

    monkeypatch.setattr(transforms, "search", recorded)
    subject: Any = SimpleNamespace(
        effort=WHOLE,
        extent=Extent(len(labels), CLASSES, Settings(), WHOLE),
        settings=Settings(),
        labels=labels,
        logits=F.one_hot(labels, CLASSES).float(),
        pixels=pixels,
        pixel_model=None,
        searched=torch.arange(CLASSES),
        classes=CLASSES,
    )
    monkeypatch.setattr(transform, "without_pixels", lambda subject: None)
    again = transform.measure(subject, {"transform": (first, far)}, silent)
    assert again == (Transformed(FAMILIES[0].name, TARGET, 80, 80, 0.5), far)
    without = transform.measure(subject, {}, silent)
    assert not isinstance(without, NotDone)
    assert len(without) == len(FAMILIES)
    assert asked == [(FAMILIES[0].name,), tuple(f.name for f in FAMILIES)]
