"""Noise stays within its bound and reaches what it is after."""

from dataclasses import replace

import pytest
import torch

from banscan.importers import TracedModel
from banscan.scanner.repair import noise, trainable
from banscan.scanner.repair.noise import Pull
from tests.scanner.repair.conftest import LIMITS, QUICK


@pytest.mark.parametrize("aimed", [True, False])
def test_search_stays_in_its_bound_and_pays(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor], aimed: bool) -> None:
    x, y = data
    values = trainable.start(model, x).values
    pull = Pull(torch.full_like(y, 3), away=False) if aimed else Pull(y, away=True)
    settings = replace(QUICK, eps=0.4, steps=4)
    found = noise.on_neurons(model, values, x, pull, settings, torch.Generator().manual_seed(0))
    assert max(float(v.abs().max()) for pair in found.values() for v in pair) <= 0.4 + 1e-6
    before, after = (float(pull.reached(trainable.Pass(model, values, n).run(x))) for n in ({}, found))
    assert after > before


@pytest.mark.parametrize("aimed", [True, False])
def test_noise_on_pixels_stays_in_its_ball_and_pays(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor], aimed: bool) -> None:
    x, y = data
    values, radius = trainable.start(model, x).values, 0.05
    pull = Pull(torch.full_like(y, 3), away=False) if aimed else Pull(y, away=True)
    change, reached = 1e-3 * torch.randn(1, *x.shape[1:], generator=torch.Generator().manual_seed(0)), []
    for _ in range(6):
        both = trainable.Pass(model, values).run(torch.cat((x, noise.shifted(x, change, LIMITS))))
        reached.append(float(pull.reached(both[len(x) :])))
        change = noise.on_pixels(model, values, x, change, pull, LIMITS, radius)
        assert float(change.square().mean().sqrt()) <= radius * (1 + 1e-5)
    assert reached[-1] > reached[0]


def test_changes_of_pixels_are_in_units_of_their_range() -> None:
    """What is black and white to the model decides, for each channel."""
    low, high = torch.tensor([-2.0, 0.0, 10.0]).reshape(1, 3, 1, 1), torch.tensor([2.0, 1.0, 30.0]).reshape(1, 3, 1, 1)
    pixels, change = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)), torch.full((1, 3, 5, 5), 0.25)
    moved = noise.shifted(low + (high - low) * pixels, change, (low, high))
    assert torch.allclose((moved - low) / (high - low), (pixels + 0.25).clamp(max=1), atol=1e-5)
