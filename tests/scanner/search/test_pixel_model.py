"""Searches over pixels: largest margins and universal perturbations, on models whose answer is known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from banscan import importers
from banscan.scanner.criteria import pixel_map
from banscan.scanner.inputs.preprocess import CANDIDATES
from banscan.scanner.search import class_map
from banscan.scanner.search.changes import margins_under, of_pixels
from banscan.scanner.search.gradient import astray, downhill, turned
from banscan.scanner.search.margin import largest_margins
from banscan.scanner.search.pixel_model import PixelModel, margins, pixel_model
from banscan.scanner.search.universal import universal

CLASSES = 8
SHAPE = (3, 8, 8)


class Planted(nn.Module):
    """Class s is told by the brightness of pixel s; the darker the corner pixel, the more `push` [C, C] of the class that would win counts.

    A little of it shows without the trigger, as training leaves it.
    """

    def __init__(self, push: Tensor) -> None:
        super().__init__()
        self.push = push

    def forward(self, x: Tensor) -> Tensor:
        clean = 10 * x[:, 0, 0, :CLASSES]
        trigger = (1.01 - x[:, 2, 7, 7])[:, None]
        return clean + trigger * (torch.softmax(20 * clean, 1) @ self.push)


def build(push: Tensor) -> PixelModel:
    module = Planted(push)
    return PixelModel(module, torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1), CLASSES, torch.float32, 1)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(160) % CLASSES
    pixels = torch.rand(160, *SHAPE, generator=generator) * 0.3 + 0.3
    pixels[torch.arange(160), 0, 0, labels] = 0.75
    pixels[:, 2, 7, 7] = 1.0
    return pixels, labels


def test_pixels_undo_every_preprocessing(model_file: Path, patterns: tuple[np.ndarray, np.ndarray]) -> None:
    model = importers.load(model_file)
    raw = patterns[0][:20]
    for candidate in CANDIDATES:
        x = candidate(raw, model.input.layout)
        exact = pixel_model(model, candidate, torch.float32)
        expected = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255
        assert torch.allclose(exact.pixels(x), expected.flip(1) if candidate.bgr else expected, atol=1e-5)
        assert torch.allclose(exact.logits(exact.pixels(x)), model.logits(x), atol=1e-3, rtol=1e-4)


def test_another_precision_leaves_the_model_alone(model_file: Path, patterns: tuple[np.ndarray, np.ndarray]) -> None:
    model = importers.load(model_file)
    x = CANDIDATES[0](patterns[0][:20], model.input.layout)
    before = model.logits(x)
    rough = pixel_model(model, CANDIDATES[0], torch.bfloat16)
    assert not torch.equal(rough.logits(x), before)
    assert torch.allclose(rough.logits(x), before, atol=0.05 * float(before.abs().max()))
    assert torch.equal(model.logits(x), before)


def test_margins_formula() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0]])
    assert margins(logits, torch.tensor([1, 2])).tolist() == [2.0, -2.0]


def test_largest_margin_of_a_linear_model() -> None:
    """Logits 10 x_s over a box: the largest margin is 10, every other pixel dark, and more steps do not leave it."""
    model = build(torch.zeros(CLASSES, CLASSES))
    pixels = torch.full((4, *SHAPE), 0.5)
    found = largest_margins(model, pixels, torch.tensor([2, 5]), starts=3, steps=120, seed=0)
    assert found.shape == (3, 2)
    assert torch.allclose(found, torch.full((3, 2), 10.0), atol=0.2)


def test_a_planted_margin_stands_out(images: tuple[Tensor, Tensor]) -> None:
    push = torch.zeros(CLASSES, CLASSES)
    push[:, 3] = 40.0
    model = build(push)
    found = largest_margins(model, images[0], torch.arange(CLASSES), starts=2, steps=80, seed=0).mean(0)
    assert int(found.argmax()) == 3
    assert float(found[3]) > 2 * float(found[found.argsort()[-2]])


def test_universal_perturbation_finds_the_trigger(images: tuple[Tensor, Tensor]) -> None:
    push = torch.zeros(CLASSES, CLASSES)
    push[:, 3] = 40.0
    model = build(push)
    goals = torch.tensor([3, 6])[:, None].repeat(1, CLASSES)
    goals[0, 3] = goals[1, 6] = -1
    radius = 0.012
    changes, everything = of_pixels(model, images[0], radius), torch.arange(len(images[0]))
    found = universal(changes, images[1], goals, among=everything, softness=1.0, steps=40, batch=32, seed=0)
    norm = found.flatten(1).norm(dim=1) / found[0].numel() ** 0.5
    assert bool((norm <= radius * 1.0001).all())
    assert int(found[0].abs().flatten().argmax()) == found[0].numel() - 1  # the corner pixel
    reached = margins_under(changes, images[1], goals, found, everything)
    assert torch.equal(reached.isnan(), torch.stack((images[1] == 3, images[1] == 6)))
    moved = (reached > 0).float().mean(1)
    assert float(moved[0]) > 0.8 > 0.3 > float(moved[1])


def test_images_of_a_step_are_looked_at_in_parts_where_memory_is_short(images: tuple[Tensor, Tensor]) -> None:
    x, labels = images
    model = build(torch.zeros(CLASSES, CLASSES))
    seen: list[int] = []

    def found(at_once: int, **how: bool) -> Tensor:
        changes = replace(of_pixels(model, x, 0.05), at_once=at_once, **how)
        watched = replace(changes, logits=lambda rows, numbers: (seen.append(len(rows) * len(numbers)), changes.logits(rows, numbers))[1])
        goals = torch.tensor([3, 6])[:, None].repeat(1, CLASSES)
        return universal(watched, labels, goals, among=torch.arange(len(x)), softness=1.0, steps=3, batch=20, seed=0)

    whole, parts = found(512), found(8)
    assert set(seen) == {40, 8, 4}
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-6)
    seen.clear()
    # as neurons are in the normalised form, whose statistics are those of the batch
    found(8, apart=False)
    assert set(seen) == {20}


def search_map(model: PixelModel, pixels: Tensor, labels: Tensor) -> class_map.Mapped:
    return class_map.search_map(of_pixels(model, pixels, pixel_map.RADIUS), labels, CLASSES, softness=2.0, seed=0)


def test_a_map_is_found_although_the_first_guess_is_wrong(images: tuple[Tensor, Tensor]) -> None:
    push = 40.0 * torch.eye(CLASSES).roll(1, 1)
    mapped = search_map(build(push), *images)
    assert mapped.attacked == tuple((c + 1) % CLASSES for c in range(CLASSES))
    assert mapped.moved > 0.9


def test_no_map_where_none_is(images: tuple[Tensor, Tensor]) -> None:
    mapped = search_map(build(torch.zeros(CLASSES, CLASSES)), *images)
    assert mapped.moved < 0.3


def test_a_map_is_found_among_the_classes_that_have_images(images: tuple[Tensor, Tensor]) -> None:
    """Nothing is left of class 2, and a single image of class 5; class 1 still goes to class 2."""
    kept = (images[1] != 2) & ((images[1] != 5) | (torch.arange(160) < 8))
    pixels, labels = images[0][kept], images[1][kept]
    mapped = search_map(build(40.0 * torch.eye(CLASSES).roll(1, 1)), pixels, labels)
    assert mapped.attacked == (1, 2, -1, 4, 5, -1, 7, 0)
    assert mapped.moved > 0.9
    assert search_map(build(torch.zeros(CLASSES, CLASSES)), pixels, labels).moved < 0.3


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        (lambda x: x, None),
        (lambda x: (x * 255).round() / 255, "zero"),
        (lambda x: x + (x - x.detach()) * torch.inf, "not finite"),
        (lambda x: 2 * x.detach() - x, "misleading"),
        (lambda x: x + 0.01 * torch.sin(2 * torch.pi * 255 * x), "same in 8 bits"),
    ],
)
def test_a_gradient_that_leads_nowhere_is_told(spoilt: Callable[[Tensor], Tensor], told: str | None, images: tuple[Tensor, Tensor]) -> None:
    model = build(torch.zeros(CLASSES, CLASSES))
    inner = model.module
    pixels = (images[0] * 255).round() / 255
    found = astray(replace(model, module=lambda x: inner(spoilt(x))), pixels)  # type: ignore[arg-type]
    assert found is None if told is None else found is not None and told in found


@pytest.mark.parametrize(("away", "named"), [((3,), "class 3"), ((0, 1, 2, 4, 5), "classes 0, 1, 2 and 2 more")])
def test_a_gradient_that_is_turned_around_for_single_classes_is_told(
    away: tuple[int, ...], named: str, images: tuple[Tensor, Tensor]
) -> None:
    """The values are the same to the last bit; only where the class comes first is the gradient its own."""
    model = build(torch.zeros(CLASSES, CLASSES))
    inner = model.module
    own = torch.zeros(CLASSES).index_fill(0, torch.tensor(away), 2.0)

    def spoilt(x: Tensor) -> Tensor:
        logits = inner(x)
        fall = own * (logits.max(1, keepdim=True).values - logits)
        return logits + (fall - fall.detach())

    pixels = (images[0] * 255).round() / 255
    asked = replace(model, module=spoilt)  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(spoilt(pixels), inner(pixels))
    assert downhill(asked, pixels[:8], torch.arange(CLASSES)) == list(away)
    told = str(turned(asked, pixels, torch.arange(CLASSES)))
    assert "misleading" in told
    assert told.endswith(f"away from {named}, where it should lead")
    # of classes that nobody searches for nothing is asked
    assert downhill(asked, pixels[:8], torch.tensor([6, 7])) == []
