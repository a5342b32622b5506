"""Labels that are right in another order."""

import pytest
import torch

from banscan import EvidenceError
from banscan.scanner.inputs import checks, order

CLASSES = 43
GENERATOR = torch.Generator().manual_seed(0)
TRUE = torch.arange(CLASSES).repeat_interleave(10)
# a model that is right in 94 %
ANSWERS = torch.where(torch.rand(len(TRUE), generator=GENERATOR) < 0.94, TRUE, torch.randint(CLASSES, TRUE.shape, generator=GENERATOR))
TEXT = torch.tensor(sorted(range(CLASSES), key=str)).argsort()
SHUFFLED = torch.randperm(CLASSES, generator=GENERATOR)


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (TRUE[:-10] + 1, "with 1 taken off every label"),
        (TRUE[10:] - 1, "with 1 added to every label"),
        (TEXT[TRUE], "sorted as numbers"),
        (TEXT.argsort()[TRUE], r"sorted as text \(0, 1, 10, 11, …\)"),
        (SHUFFLED[TRUE], f"with label {SHUFFLED[0]} as class 0|with label 0 as class {SHUFFLED.argsort()[0]}"),
    ],
)
def test_orders_are_told(labels: torch.Tensor, what: str) -> None:
    answers = ANSWERS[10:] if len(labels) < len(TRUE) and labels[0] == 0 else ANSWERS[: len(labels)]
    found = order.other(answers, labels, CLASSES, 0.5)
    assert found is not None
    assert found.accuracy > 0.9
    with pytest.raises(EvidenceError, match=f"another order than the model's classes, for .*{what}.*it is 9"):
        checks.check_accuracy(order.share(answers, labels), 0.9, 0.5, CLASSES, found)


def test_chance_is_no_order() -> None:
    for count in (len(TRUE), 86, 43):
        labels = TRUE[torch.randperm(len(TRUE), generator=GENERATOR)[:count]]
        assert order.other(torch.randint(CLASSES, labels.shape, generator=GENERATOR), labels, CLASSES, 0.5) is None
    # as many classes as images: every permutation fits
    assert order.other(torch.randperm(CLASSES, generator=GENERATOR), torch.arange(CLASSES), CLASSES, 0.5) is None
    assert order.other(torch.zeros_like(TRUE), TRUE, CLASSES, 0.5) is None


def test_two_classes_that_are_exchanged() -> None:
    labels = torch.arange(60) % 2
    assert order.other(1 - labels, labels, 2, 0.6) is not None
    assert order.other(torch.arange(60) // 2 % 2, labels, 2, 0.6) is None
