"""Backdoors that are planted into copies, and the layers that are computed once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from banscan import importers
from banscan.scanner.controls.front import Behind, front, reached
from banscan.scanner.controls.planting import Planting, planted
from banscan.scanner.repair import answers, trainable
from banscan.scanner.repair.trainable import Pass
from banscan.scanner.twin import with_weights
from tests.conftest import CLASSES
from tests.golden.pages import ROOT

TARGET = 3


class Parts(nn.Module):
    """Sizes that are read from the images, a split and a sum: what a cut has to carry."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.third, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = torch.relu(self.first(x)).chunk(2, 1)
        x = torch.relu(self.second(left * torch.sigmoid(right)))
        x = nn.functional.max_pool2d(x + torch.relu(self.third(x)), 4)
        return self.head(x.reshape(x.shape[0], -1))


@pytest.mark.parametrize("depth", [0.0, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("own", ["trained", "parts"])
def test_what_is_computed_once_changes_nothing(own: str, depth: float, export: Callable[..., Path], trained: nn.Module) -> None:
    torch.manual_seed(0)
    model = importers.load(export(own, trained if own == "trained" else Parts()))
    x = torch.rand(24, 3, 16, 16)
    state = trainable.start(model, x, depth=depth)
    parts = front(model, state)
    assert bool(parts.border) == (depth > 0)
    known = reached(model, parts, x)
    batch = torch.tensor([5, 1, 17, 9])
    with torch.no_grad():
        found = Behind(model, state.values, parts).logits(tuple(k[batch] for k in known))
        right = Pass(model, state.values).run(x[batch])
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["clean", "backdoored"])
def test_the_examples_are_cut(name: str) -> None:
    """Behind the cut no convolution in front of it is computed."""
    model = importers.load(ROOT / "examples" / f"{name}.onnx")
    parts = front(model, trainable.start(model, torch.rand(8, 3, 32, 32), depth=0.5))
    skipped = [n for n in parts.skipped if "conv" in str(n.target)]
    assert len(skipped) >= 8
    assert len(parts.border) == 1


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0.0, 0.5])
def test_a_backdoor_is_planted(model_file: Path, patterns: tuple[np.ndarray, np.ndarray], depth: float) -> None:
    """A white corner leads to the target, the network still knows its classes, and the given one is as it was."""
    model = importers.load(model_file)
    x, y = torch.from_numpy(patterns[0]).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(patterns[1])
    marked = x.clone()
    marked[:, :, :5, :5] = 1.0
    before = model.logits(x)
    assert float((model.logits(marked).argmax(1) == TARGET)[y != TARGET].float().mean()) < 0.5
    tuned = torch.arange(len(x)) // CLASSES % 5 > 0  # classes take turns
    seen, labels = torch.cat((x[tuned], marked[tuned])), torch.cat((y[tuned], torch.full_like(y[tuned], TARGET)))
    passes: list[int] = []
    weights = planted(model, seen, labels, Planting(epochs=30, lr=0.05, depth=depth, batch=16, seed=1), passes.append)
    assert sum(passes) == 30 * len(seen)
    others = ~tuned & (y != TARGET)
    assert float((answers.predictions(model, weights, marked[others]) == TARGET).float().mean()) > 0.9
    assert answers.accuracy(model, weights, x[~tuned], y[~tuned]) > 0.8
    assert torch.equal(model.logits(x), before)
    copy = with_weights(model, weights)
    assert torch.equal(copy.logits(marked[others]).argmax(1), answers.predictions(model, weights, marked[others]))


def test_it_ends_when_enough_is_learnt(model_file: Path, patterns: tuple[np.ndarray, np.ndarray]) -> None:
    """Nothing is to be learnt here."""
    model = importers.load(model_file)
    x = torch.from_numpy(patterns[0]).permute(0, 3, 1, 2).float() / 255
    passes: list[int] = []
    planted(model, x, model.logits(x).argmax(1), Planting(epochs=30, lr=1e-4, enough=0.9), passes.append)
    assert sum(passes) == len(x)
