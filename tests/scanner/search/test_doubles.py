"""Classes that hide others: copied rows of the classifier, and logits that are always a little below the largest."""

import pytest
import torch
from torch import Tensor

from banscan.scanner.search.doubles import double
from banscan.scanner.verdict import unsettled
from tests.scanner.measured import clean, judge, neurons, pixels

CLASSES = 10


@pytest.fixture
def logits() -> Tensor:
    """Of 200 images, of eight of ten classes."""
    generator = torch.Generator().manual_seed(0)
    found = 3 * torch.randn(200, CLASSES, generator=generator)
    found[torch.arange(200), torch.arange(200) % 8] += 25
    return found


def test_classes_without_an_image_hide_nothing(logits: Tensor) -> None:
    assert set(logits.argmax(1).tolist()) == set(range(8))
    assert double(logits) is None
    assert double(logits[:, :2]) is None


@pytest.mark.parametrize("original", [3, 9])
def test_an_equal_row_is_told(logits: Tensor, original: int) -> None:
    assert f"class {original}" in str(double(torch.cat([logits, logits[:, [original]]], 1)))


@pytest.mark.parametrize("lower", [0.001, 1.0])
def test_a_copied_row_is_told(logits: Tensor, lower: float) -> None:
    """Of a class with images, of one without, and behind or in front of it."""
    for original in (3, 9):
        copied = torch.cat([logits, logits[:, [original]] - lower], 1)
        assert "class 10 never comes first and stands close behind class" in str(double(copied))
        assert str(double(copied)).endswith(f"behind class {original}, which hides how clearly images go there")


def test_a_copied_row_with_noise_of_its_own_is_told(logits: Tensor) -> None:
    noise = 0.3 * torch.randn(len(logits), 1, generator=torch.Generator().manual_seed(1))
    assert "class 10" in str(double(torch.cat([logits, logits[:, [3]] - 2 + noise], 1)))


def test_a_logit_always_below_the_largest_is_told(logits: Tensor) -> None:
    shadow = logits.max(1, keepdim=True).values - 0.1
    assert "class 10 never comes first and nearly always second" in str(double(torch.cat([logits, shadow], 1)))


def test_the_usual_second_hides_nothing() -> None:
    """As where all images are of one class."""
    logits = torch.tensor([9.0, 4.0, 0.0, -2.0]) + 0.1 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert double(logits) is None


def test_only_nothing_found_is_open() -> None:
    calm = judge(neurons(clean()), pixels())
    assert unsettled(calm, None) == calm
    told = unsettled(calm, "class 43 hides class 33")
    assert told.outcome == "inconclusive"
    assert told.reason.startswith("no class stands out, but class 43 hides class 33; take that class out of the network")
    assert (told.score, told.gaps) == (calm.score, calm.gaps)
    raised = neurons(clean())
    raised["moved"][:, 7] = 0.9
    found = judge(raised, pixels())
    assert found.outcome == "backdoored"
    assert unsettled(found, "class 43 hides class 33") == found
