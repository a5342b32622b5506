"""The patches that a repair pastes, on the model whose trigger no gradient shows."""

from functools import partial

import pytest
import torch
from torch import Tensor

from banscan.scanner.repair import patch_pool
from banscan.scanner.repair.patch_pool import Victims
from banscan.scanner.search import patch
from banscan.scanner.search.pixel_model import PixelModel
from tests.scanner.search.test_patch import CLASSES, SHAPE, TARGET, build, images

__all__ = ["images"]  # the fixture
SOFTNESS = 2.0


def tried(images: tuple[Tensor, Tensor], channels_last: bool = False) -> Victims:
    pixels, labels = images
    foreign = pixels[labels != TARGET]
    return Victims(
        build(channels_last), foreign.permute(0, 2, 3, 1) if channels_last else foreign, torch.full((len(foreign),), TARGET), SOFTNESS
    )


def logits(view: PixelModel, x: Tensor) -> Tensor:
    return view.logits(x)  # black is 0 here, and white 1


def test_success_is_that_of_the_search(images: tuple[Tensor, Tensor]) -> None:
    victims, patches = tried(images), patch.draw(40, SHAPE, torch.Generator().manual_seed(0))
    drawn = torch.arange(0, 60, 4)
    own = patch_pool.successes(victims, partial(logits, victims.view), patches, drawn)
    labels = torch.full((len(drawn),), (TARGET + 1) % CLASSES)
    theirs = patch.successes(victims.view, victims.pixels[drawn], labels, torch.tensor([TARGET]), patches, SOFTNESS)[:, 0]
    assert torch.allclose(own, theirs, atol=1e-6)


def test_every_image_has_a_goal_of_its_own(images: tuple[Tensor, Tensor]) -> None:
    pixels, labels = images
    goals = (labels + 1) % CLASSES
    victims = Victims(build(), pixels, goals, SOFTNESS)
    patches = patch.draw(3, SHAPE, torch.Generator().manual_seed(0))
    own = patch_pool.successes(victims, partial(logits, victims.view), patches, torch.arange(24))
    one_by_one = [patch_pool.successes(victims, partial(logits, victims.view), patches, torch.tensor([i])) for i in range(24)]
    assert torch.allclose(own, torch.stack(one_by_one).mean(0), atol=1e-6)


@pytest.mark.slow
def test_a_light_population_finds_the_trigger_with_a_sixth_of_the_passes(images: tuple[Tensor, Tensor]) -> None:
    victims, drawn, passes = tried(images), torch.arange(0, 60, 4), dict.fromkeys(("whole", "light"), 0)

    def counted(pool: str, x: Tensor) -> Tensor:
        passes[pool] += len(x)
        return victims.view.logits(x)

    for name, pool in {"whole": patch_pool.WHOLE, "light": patch_pool.LIGHT}.items():
        found = patch_pool.followed(victims, partial(counted, name), None, 0, pool)
        for epoch in range(1, 8):
            found = patch_pool.followed(victims, partial(counted, name), found, epoch, pool)
        assert len(found) == pool.kept
        assert float(patch_pool.successes(victims, partial(logits, victims.view), found, drawn).mean()) > 0.5
    assert passes["light"] < passes["whole"] / 5


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_population_finds_a_trigger_and_follows_the_model(images: tuple[Tensor, Tensor], channels_last: bool) -> None:
    victims = tried(images, channels_last)
    model, drawn = partial(logits, victims.view), torch.arange(len(victims.goals))
    found = patch_pool.followed(victims, model, None, seed=0)
    assert len(found) == patch_pool.WHOLE.kept
    assert float(patch_pool.successes(victims, model, found, drawn).mean()) > 0.5
    again = patch_pool.followed(victims, model, None, seed=0)
    assert torch.equal(patch.changes(victims.view, victims.pixels, found), patch.changes(victims.view, victims.pixels, again))

    def moved(x: Tensor) -> Tensor:
        """The same trigger two pixels further up."""
        return model(x.roll(2, 1 if channels_last else 2))

    before = patch_pool.successes(victims, moved, found, drawn).mean()
    for epoch in range(1, 7):
        found = patch_pool.followed(victims, moved, found, seed=epoch)
    assert float(patch_pool.successes(victims, moved, found, drawn).mean()) > float(before) + 0.1
    assert patch.changes(victims.view, victims.pixels, found).shape == (patch_pool.WHOLE.kept, *victims.pixels.shape[1:])
