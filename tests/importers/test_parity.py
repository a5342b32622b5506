"""What the comparison with the file's own runtime leaves out: images whose answer a rounding error decides, and only those."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from banscan import importers
from banscan.errors import EvidenceError, MisreadError
from banscan.importers import sandbox

COUNT = 40


class Steps(nn.Module):
    """A binarised layer behind the mean of all pixels, which is on the edge of its step for images of 0.5."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 16, bias=False)
        nn.init.constant_(self.first.weight, 1 / (3 * 16 * 16))
        self.first.bias = nn.Parameter(torch.full((8,), -0.5))
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.first(x).sign().flatten(1))
        return y


def images(edge: int) -> Tensor:
    """So many of COUNT on the edge."""
    x = torch.rand(COUNT, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.4
    x[:edge] = 0.5
    return x


@pytest.fixture
def stepped(export: Callable[..., Path]) -> importers.TracedModel:
    return importers.load(export("steps", Steps()))


def answering(monkeypatch: pytest.MonkeyPatch, own: Callable[[Tensor], Tensor]) -> None:
    """The runtime answers this."""
    monkeypatch.setattr(sandbox, "call", lambda name, arguments, given, **rest: [own(given["images"])])


def rounded(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network whose sums fall to the other side where rounding decides it."""

    def answer(x: Tensor) -> Tensor:
        assert isinstance(module, Steps)
        sums = module.first(x)
        other = torch.where(sums >= 0, -1.0, 1.0)
        return module.last(torch.where(sums.abs() < 1e-6, other, sums.sign()).flatten(1)).detach()

    return answer


def test_images_on_the_edge_of_a_step_are_left_out(stepped: importers.TracedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, rounded(Steps()))
    found = importers.parity(stepped, images(12))
    assert found is not None
    assert (found.images, found.unsteady) == (COUNT - 12, 12)
    assert found.rms < 1e-5


def test_half_of_them_is_too_much(stepped: importers.TracedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, rounded(Steps()))
    with pytest.raises(EvidenceError, match="20 of 40 images"):
        importers.parity(stepped, images(20))


def test_an_unsteady_image_that_was_misread_counts(stepped: importers.TracedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is none of those that rounding gives."""

    def wrong(x: Tensor) -> Any:
        y = rounded(Steps())(x)
        y[:12] += 30 * torch.eye(10)[3]
        return y

    answering(monkeypatch, wrong)
    found = importers.parity(stepped, images(12))
    assert found is not None
    assert found.unsteady == 0
    assert found.rms > 1


def test_what_all_outputs_have_in_common_hides_nothing() -> None:
    """Nor does a single image with large ones."""
    relative = importlib.import_module("banscan.importers.parity")._relative
    rng = np.random.default_rng(0)
    answers, others = rng.normal(size=(64, 10)), rng.normal(size=(64, 10))
    far = relative(answers, others)
    assert np.allclose(relative(answers + 50, others + 50), far)
    assert (relative(answers + 1e4, others + 1e4) > 0.005).all()
    large = np.concatenate([answers, 1e6 * answers[:1]])
    assert np.allclose(relative(large, np.concatenate([others, 1e6 * answers[:1]]))[:-1], far, rtol=0.1)


def test_where_most_are_on_the_edge_nothing_is_said(stepped: importers.TracedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, rounded(Steps()))
    with pytest.raises(EvidenceError, match="rounding errors decide the answers to 25 of 40 images") as told:
        importers.parity(stepped, images(25))
    assert not isinstance(told.value, MisreadError)


@pytest.mark.parametrize("other", ["weights", "one image"])
def test_what_was_misread_is_no_rounding(stepped: importers.TracedModel, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    net = Steps()

    def wrong(x: Tensor) -> Any:
        y = rounded(net)(x)
        y[-1 if other == "one image" else slice(None)] += 0.5
        return y

    answering(monkeypatch, wrong)
    found = importers.parity(stepped, images(0))
    assert found is not None
    assert found.unsteady == 0
    assert found.rms > 0.01
