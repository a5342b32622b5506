"""The strength of the noise, where the share of images that it moves is known."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from banscan.scanner.effort import FIRST_LOOK, WHOLE, Noise
from banscan.scanner.search import strength
from banscan.scanner.search.neurons import Neurons
from banscan.scanner.settings import Settings


def sought(monkeypatch: pytest.MonkeyPatch, half: float, slope: float, budget: Noise) -> tuple[float, int]:
    """The strength for a model of which `half` moves every second image, and how many searches it took."""
    tried: list[float] = []

    def search(noise: Tensor, target: Tensor, *, eps: float, **_: Any) -> Tensor:
        tried.append(eps)
        return noise

    def share(*_: Any) -> Tensor:
        return torch.tensor([1 / (1 + (half / tried[-1]) ** slope)])

    monkeypatch.setattr(strength, "start", lambda *_: torch.zeros(1, 1))
    monkeypatch.setattr(strength, "logits_under", lambda *_: (torch.zeros(1), None))
    monkeypatch.setattr(strength, "moved_share", share)
    neurons = SimpleNamespace(labels=torch.arange(400) % 43, prepared=(torch.zeros(400),), fast=None, search=search)
    found = strength.strength(cast(Neurons, neurons), torch.arange(43), Settings(), budget)
    return found, len(tried)


@pytest.mark.parametrize("half", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("slope", [1.0, 4.0])
def test_it_moves_the_share_that_is_aimed_at(monkeypatch: pytest.MonkeyPatch, half: float, slope: float) -> None:
    wanted = half * (strength.REACH / (1 - strength.REACH)) ** (1 / slope)
    whole, searches = sought(monkeypatch, half, slope, WHOLE.noise)
    assert abs(math.log(whole / wanted)) < 0.04
    assert searches == WHOLE.noise.tries
    first, fewer = sought(monkeypatch, half, slope, FIRST_LOOK.noise)
    reached = 1 / (1 + (half / first) ** slope)
    assert abs(reached - strength.REACH) < 1.2 * FIRST_LOOK.noise.near
    assert fewer <= 5


@pytest.mark.parametrize("half", [1e-4, 1e3])
def test_it_stays_within_its_bounds(monkeypatch: pytest.MonkeyPatch, half: float) -> None:
    low, high = strength.STRENGTHS["l2"]
    assert low < sought(monkeypatch, half, 4.0, FIRST_LOOK.noise)[0] < high


def test_all_classes_are_among_the_images_that_are_read() -> None:
    labels = torch.arange(430) % 43
    (prepared,), theirs, numbers = strength.some((labels,), labels, 86)
    assert len(numbers) == 86
    assert len(theirs.unique()) == 43
    assert torch.equal(prepared, theirs)
    assert torch.equal(strength.some((labels,), labels, None)[2], torch.arange(430))
