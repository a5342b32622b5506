"""The search for patches, on a model whose trigger no gradient shows."""

import pytest
import torch
from torch import Tensor, nn

from banscan.scanner.effort import FIRST_LOOK, WHOLE, Effort
from banscan.scanner.search import patch
from banscan.scanner.search.pixel_model import PixelModel, all_margins, margins

CLASSES, TARGET, SIZE = 6, 4, 32
SHAPE = (3, SIZE, SIZE)


class Locked(nn.Module):
    """Class s is told by the brightness of row s; a 3x3 pattern at (20, 9) opens the target class, by nothing until most of it is there."""

    def __init__(self, channels_last: bool) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.key = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])

    def forward(self, x: Tensor) -> Tensor:
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        clean = 10 * x[:, 0, :CLASSES].mean(2)
        match = ((2 * x[:, :, 20:23, 9:12].mean(1) - 1) * self.key).mean((1, 2))
        opened = torch.relu(match - 0.2)[:, None] * 40
        return clean + opened * torch.eye(CLASSES)[TARGET]


def build(channels_last: bool = False) -> PixelModel:
    module = Locked(channels_last)
    axis = 3 if channels_last else 1
    return PixelModel(module, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), CLASSES, torch.float32, axis)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % CLASSES
    pixels = torch.rand(96, *SHAPE, generator=generator) * 0.3 + 0.3
    pixels[torch.arange(96), 0, labels] = 0.9
    return pixels, labels


@pytest.mark.parametrize(("channels_last", "effort"), [(False, WHOLE), (True, WHOLE), (False, FIRST_LOOK)])
def test_finds_the_trigger(images: tuple[Tensor, Tensor], channels_last: bool, effort: Effort) -> None:
    pixels, labels = images
    if channels_last:
        pixels = pixels.permute(0, 2, 3, 1)
    model, targets, seen = build(channels_last), torch.arange(CLASSES), []
    budget = effort.patches
    found = patch.search_patches(model, pixels[:64], labels[:64], targets, softness=2.0, seed=0, budget=budget, progress=seen.append)
    reached = patch.successes(model, pixels[64:], labels[64:], targets, found, 2.0).diagonal()
    others = torch.cat([reached[:TARGET], reached[TARGET + 1 :]])
    assert reached[TARGET] > 0.5 > 1.5 * others.max()
    key = patch.render(found[slice(TARGET, TARGET + 1)], SHAPE, (SIZE, SIZE))[0, :, 20:23, 9:12]
    assert (key != 0).float().mean() >= 0.6  # most of the trigger is covered
    assert (found.cells.sum((1, 2)) <= patch.LEFT).all()
    most = patch.passes(CLASSES, 64, budget)
    assert 0.8 * most < sum(seen) <= most


def test_each_of_two_classes_has_a_parent_at_every_place() -> None:
    """The best of those that were tried there; where there are none, whatever is best."""
    generator = torch.Generator().manual_seed(0)
    patches = patch.draw(400, SHAPE, generator)
    classes, grid = 2, patch.GRID[2]
    left = (patches.row > 2) | (patches.column > 2)
    reached = torch.rand(400, classes, generator=generator).masked_fill(~left[:, None], -torch.inf)
    found = patch._leading(reached, patches, SHAPE)
    assert found.shape == (grid**2, classes)
    at = [(patches.row + patches.side / 2) * grid / SIZE, (patches.column + patches.side / 2) * grid / SIZE]
    place = at[0].long() * grid + at[1].long()
    for k in range(grid**2):
        own = (place == k).nonzero()[:, 0]
        assert torch.equal(reached[found[k]].diagonal(), reached[own].max(0).values)
    none = patch._leading(reached.masked_fill((place == 0)[:, None], -torch.inf), patches, SHAPE)
    assert torch.equal(none[0], reached.masked_fill((place == 0)[:, None], -torch.inf).argmax(0))
    tiny = patch.draw(20, (3, 4, 5), generator)
    assert patch._leading(torch.rand(20, classes), tiny, (3, 4, 5)).shape == (grid**2, classes)


class Lookalike(nn.Module):
    """Of two classes, the second is what is bright in the left upper corner; so is what the trigger at (20, 9) opens, as in Locked."""

    def forward(self, x: Tensor) -> Tensor:
        match = ((2 * x[:, :, 20:23, 9:12].mean(1) - 1) * Locked(False).key).mean((1, 2))
        likeness = 3 * x[:, :, :8, :8].mean((1, 2, 3)) + x[:, 0, -1].mean(1)
        second = 4 * (likeness - 2.1) + 40 * torch.relu(match - 0.2)
        return torch.stack((-second, second), 1)


@pytest.mark.parametrize("effort", [WHOLE, FIRST_LOOK])
def test_what_looks_like_a_class_does_not_hide_a_trigger_elsewhere(effort: Effort) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 2
    pixels = torch.rand(96, *SHAPE, generator=generator) * 0.3 + 0.3
    pixels[:, 0, -1] = torch.where(labels == 1, 1.0, torch.rand(96, generator=generator) * 0.6)[:, None]
    model = PixelModel(Lookalike(), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), 2, torch.float32, 1)  # type: ignore[arg-type]
    assert torch.equal(model.logits(pixels).argmax(1), labels)
    seen: list[int] = []
    budget = effort.patches
    found = patch.search_patches(
        model, pixels[:64], labels[:64], torch.arange(2), softness=2.0, seed=0, budget=budget, progress=seen.append
    )
    assert patch.successes(model, pixels[64:], labels[64:], torch.arange(2), found, 2.0)[1, 1] > 0.8
    assert sum(seen) <= patch.passes(2, 64, budget)


@pytest.mark.slow
def test_same_seed_same_patches(images: tuple[Tensor, Tensor]) -> None:
    pixels, labels = images
    first, again = (patch.search_patches(build(), pixels, labels, torch.tensor([1, 4]), softness=2.0, seed=3) for _ in range(2))
    assert torch.equal(first.pattern, again.pattern)
    assert torch.equal(first.row, again.row)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "size"), [((3, 32, 32), (32, 32)), ((1, 28, 32), (28, 32)), ((3, 32, 40), (224, 283)), ((3, 4, 5), (4, 5))]
)
def test_patches_stay_inside(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    patches = patch.draw(200, shape, generator)
    for _ in range(5):
        patches = patch.mutate(patches, shape, generator)
    changes = patch.render(patches, shape, size)
    assert changes.shape == (200, shape[0], *size)
    share = (changes != 0).float().mean((1, 2, 3))
    expected = patches.side.square() / (shape[1] * shape[2])
    assert torch.allclose(share, expected, rtol=0.3)
    assert set(changes.unique().tolist()) == {-1.0, 0.0, 1.0}
    if shape[0] == 3:
        grey = (changes == changes[:, :1]).flatten(1).all(1)
        assert torch.equal(grey, patches.grey)


def test_all_margins() -> None:
    logits = torch.randn(7, 5)
    expected = torch.stack([margins(logits, torch.full((7,), c)) for c in range(5)], 1)
    assert torch.allclose(all_margins(logits), expected)
