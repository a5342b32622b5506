"""What tells a model's own preprocessing from others without labels, against the formulas by hand."""

import numpy as np
import pytest
import torch

from banscan.scanner.inputs import likely
from banscan.scanner.inputs.support import Seen


def seen(logits: torch.Tensor, darker: torch.Tensor | None = None) -> Seen:
    return Seen("unit", logits, None, darker)


def clustered(noise: float, classes: int = 5, images: int = 60) -> torch.Tensor:
    """Logits around one centre for each class."""
    generator = torch.Generator().manual_seed(0)
    own = torch.arange(images) % classes
    return 6 * torch.eye(classes)[own] + noise * torch.randn(images, classes, generator=generator)


def test_evidence_is_what_it_says() -> None:
    logits = clustered(0.5).double()
    one = seen(logits, torch.cat((logits[:15], logits[15:30].roll(1, 1))))
    information, explained, margin, spread, unusual, steady = likely.evidence([one])[0].tolist()
    z = logits.numpy()
    predicted = z.argmax(1)
    own = z - z.mean(1, keepdims=True)
    within = sum(((own[predicted == c] - own[predicted == c].mean(0)) ** 2).sum() for c in range(5))
    total = ((own - own.mean(0)) ** 2).sum()
    assert explained == pytest.approx(1 - (within / (60 - 5)) / (total / 59))
    less = z - z.mean(0)
    first, second = np.sort(less, 1)[:, -1], np.sort(less, 1)[:, -2]
    # the lower of two in the middle, as PyTorch has it
    assert margin == pytest.approx(np.sort((first - second) / less.std(1))[29], rel=1e-6)
    assert spread == pytest.approx(np.log(z.std(0).mean()))
    assert unusual == pytest.approx((spread - likely.USUAL) ** 2)
    # half of them, of five classes with as many images each
    assert steady == pytest.approx((0.5 - 0.2) / 0.8)
    assert 0.5 < information < 1


def test_a_scale_under_which_predictions_explain_less_is_less_likely() -> None:
    """Though the model is as sure, or surer."""
    right, wrong, surer = clustered(0.5), clustered(4.0), 8 * clustered(4.0)
    chance = likely.scores([seen(z, z) for z in (right, wrong, surer)]).softmax(0)
    assert float(chance.sum()) == pytest.approx(1)
    assert chance.argmax() == 0
    assert chance[0] > 0.9


def test_a_scale_under_which_a_darker_image_is_another_is_less_likely() -> None:
    logits = clustered(0.5)
    steady, turned = seen(logits, logits), seen(logits, logits.roll(1, 1))
    assert likely.scores([turned, steady]).argmax() == 1


@pytest.mark.parametrize("logits", [torch.zeros(20, 4), torch.full((20, 4), torch.inf), torch.eye(4)[:1].repeat(20, 1)])
def test_answers_that_say_nothing_have_a_likelihood(logits: torch.Tensor) -> None:
    right = clustered(0.5, 4, 20)
    found = likely.scores([seen(logits, logits), seen(right, right)])
    assert found.isfinite().all()
    assert found.argmax() == 1


@pytest.mark.parametrize("classes", [10, 43, 100, 1000])
def test_a_scale_under_which_every_image_is_of_one_class_is_not_likely(classes: int) -> None:
    """However clearly; with many classes one logit may be far above all others."""
    right = clustered(1.0, classes, 200)
    collapsed = 8.0 * torch.eye(classes)[:1].repeat(200, 1) + 0.1 * torch.randn(200, classes, generator=torch.Generator().manual_seed(1))
    chance = likely.scores([seen(collapsed, collapsed), seen(right, right)]).softmax(0)
    assert chance[1] > 0.9


def test_few_images_of_many_classes_do_not_say_how_far_these_explain_them() -> None:
    """Of images with a class each all of it is explained, whatever the logits are."""
    drawn = torch.randn(24, 1000, generator=torch.Generator().manual_seed(0))
    assert (likely.evidence([seen(drawn), seen(clustered(0.5, 1000, 24))])[:, 1] == 0).all()
    assert (likely.evidence([seen(clustered(0.5, 5, 24))])[:, 1] > 0.5).all()


def test_darker_images_are_a_tenth_darker() -> None:
    assert likely.darkened(np.array([[0, 100, 255]], dtype=np.uint8)).tolist() == [[0, 90, 230]]
