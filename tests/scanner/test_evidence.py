"""What is read off the logits under noise, by hand on small tables."""

from pathlib import Path

import pytest
import torch

from banscan.scanner import evidence
from banscan.scanner.settings import Settings


def test_margin_table_and_moved_share() -> None:
    labels = torch.tensor([0, 0, 1])
    # noise aimed at class 1, then at class 2
    logits = torch.tensor(
        [
            [[1.0, 3.0, 0.0], [2.0, 1.0, 0.0], [0.0, 5.0, 1.0]],
            [[0.0, 1.0, 4.0], [0.0, 2.0, 1.0], [0.0, 0.0, 2.0]],
        ]
    )
    targets = torch.tensor([1, 2])
    table = evidence.margin_table(logits, targets, labels, 3)
    assert table.shape == (2, 3)
    assert float(table[0, 0]) == ((3 - 1) + (1 - 2)) / 2
    assert bool(table[0, 1].isnan())
    assert float(table[1, 1]) == 2
    assert bool(table[:, 2].isnan().all())  # no image of class 2
    moved = evidence.moved_share(logits, targets, labels)
    assert moved.tolist() == [0.5, torch.tensor(2 / 3).item()]


def test_shares() -> None:
    assert evidence.shares(torch.tensor([0, 2, 2, 2]), 4).tolist() == [0.25, 0, 0.75, 0]


def test_targets_of_many_classes() -> None:
    """All of few classes; of many, those with raised logits on images of others are among them, each class once."""
    generator = torch.Generator().manual_seed(0)
    clean, labels = torch.randn(300, 150, generator=generator), torch.arange(300) % 150
    clean[:, 77] += 5
    assert evidence.choose_targets(clean[:, :40], labels % 40, Settings()).tolist() == list(range(40))
    chosen = evidence.choose_targets(clean, labels, Settings(targets=20))
    assert len(chosen) == len(chosen.unique()) == 20
    assert 77 in chosen


@pytest.mark.slow
def test_strength_moves_about_the_asked_share(model_file: Path, image_dir: Path) -> None:
    """The bisected strength leads to a median share near REACH, from a scan of the small model."""
    from banscan.scanner.scan import scan

    report = scan(model_file, image_dir, settings=Settings(restarts=2))
    assert report.evidence is not None
    median = float(report.evidence.moved.mean(0).median())
    assert abs(median - evidence.REACH) < 0.25
