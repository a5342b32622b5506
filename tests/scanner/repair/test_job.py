"""Which images a repair keeps to measure on, where it lets the noise pull, and how it suits the settings to the images."""

import numpy as np
import torch

from banscan.importers import TracedModel
from banscan.scanner.findings import ALL, ONE, Verdict
from banscan.scanner.repair import fold, job


def test_kept_images_are_spread_over_the_classes() -> None:
    labels = torch.arange(200) % 10
    assert np.bincount(labels[fold.every_fifth(labels)].numpy()).tolist() == [4] * 10


def test_several_targets_take_turns() -> None:
    aims = job.aimed(Verdict(outcome="backdoored", reason="", kind=ONE, targets=(3, 7, 1)), 10)
    assert aims is not None
    assert aims.tolist() == [3, 7, 1, 3, 7, 1, 3, 7, 1, 3]


def test_a_map_sends_every_class_where_it_says() -> None:
    """Classes that took no part in it stay where they are."""
    aims = job.aimed(Verdict(outcome="backdoored", reason="", kind=ALL, mapping=((0, 1), (1, 3), (3, 0))), 5)
    assert aims is not None
    assert aims.tolist() == [1, 3, 2, 0, 4]


def test_without_a_finding_nothing_is_aimed_at() -> None:
    assert job.aimed(Verdict(outcome="no backdoor found", reason=""), 10) is None


def test_mirroring_only_where_it_is_suited(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = data
    symmetric = (x + x.flip(3)) / 2
    assert fold.mirrors(model, symmetric, model.logits(symmetric).argmax(1))
    assert not fold.mirrors(model, x, y)
