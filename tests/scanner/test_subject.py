"""Which classes are searched for, and what is read off the logits, by hand on small tables."""

import copy
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import torch
from torch import nn

from banscan.errors import EvidenceError
from banscan.scanner.aside import shares
from banscan.scanner.findings import NOT_SCANNED
from banscan.scanner.inputs.checks import check_logits
from banscan.scanner.scan import dry_run, scan
from banscan.scanner.search import taps
from banscan.scanner.search.class_map import margin_table
from banscan.scanner.search.strength import REACH, moved_share
from banscan.scanner.settings import Options, Settings
from banscan.scanner.subject import sample, searched


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
    table = margin_table(logits, targets, labels, 3)
    assert table.shape == (2, 3)
    assert float(table[0, 0]) == ((3 - 1) + (1 - 2)) / 2
    assert bool(table[0, 1].isnan())
    assert float(table[1, 1]) == 2
    assert bool(table[:, 2].isnan().all())  # no image of class 2
    moved = moved_share(logits, targets, labels)
    assert moved.tolist() == [0.5, torch.tensor(2 / 3).item()]


def test_shares() -> None:
    assert shares(torch.tensor([0, 2, 2, 2]), 4).tolist() == [0.25, 0, 0.75, 0]


def test_targets_of_many_classes() -> None:
    """All of few classes; of many, those with raised logits on images of others are among them, each class once."""
    generator = torch.Generator().manual_seed(0)
    clean, labels = torch.randn(300, 150, generator=generator), torch.arange(300) % 150
    clean[:, 77] += 5
    assert searched(clean[:, :40], labels % 40, Settings())[0].tolist() == list(range(40))
    chosen, drawn = searched(clean, labels, Settings(targets=20))
    assert drawn is not None
    assert len(chosen) == len(chosen.unique()) == 20
    assert int(drawn.sum()) == 10
    assert 77 in chosen
    assert torch.equal(chosen[drawn], sample(150, 10, 0).sort().values)
    few, among = searched(clean, labels, Settings(targets=6))
    assert among is not None
    assert (len(few), int(among.sum())) == (6, 5)


@pytest.mark.slow
def test_strength_moves_about_the_asked_share(model_file: Path, image_dir: Path) -> None:
    """The bisected strength leads to a median share near REACH, from a scan of the small model."""
    report = scan(model_file, image_dir, settings=Settings(restarts=2, pixels=False))
    assert abs(median(row.moved for row in report.reach) - REACH) < 0.25


@pytest.mark.slow
def test_a_dear_network_is_read_with_what_the_search_prepared(model_file: Path, image_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers in front of the noise are rounded, the shares that noise moves are nearly the same."""
    settings, options = Settings(restarts=1, steps=2, pixels=False, effort="thorough"), Options(precision="bfloat16")
    usual = scan(model_file, image_dir, settings=settings, options=options)
    monkeypatch.setattr(taps, "COSTLY", 0)
    dear = scan(model_file, image_dir, settings=settings, options=options)
    for one, other in zip(usual.reach, dear.reach, strict=True):
        assert one.moved == pytest.approx(other.moved, abs=0.05)


@pytest.mark.slow
def test_criteria_measure_and_repeat(model_file: Path, image_dir: Path) -> None:
    """All of them, each in a stage of its own; twice the same."""
    stages: list[str] = []
    reports = [
        scan(model_file, image_dir, settings=Settings(restarts=1, steps=2), progress=lambda stage, *_: stages.append(stage))
        for _ in range(2)
    ]
    assert reports[0].findings == reports[1].findings
    assert all(f.not_done is None for f in reports[0].findings)
    assert {f.criterion for f in reports[0].findings} <= reports[0].seconds.keys()
    assert len({stage for stage in stages if stage.startswith("searching for")}) == 7


def lost(channels: int, far: float) -> nn.Sequential:
    """Nothing to float32, and to bfloat16 next to no signal: what is added and taken off again has no room for it."""
    there, back = (nn.Conv2d(channels, channels, 1, groups=channels) for _ in range(2))
    for layer, by in ((there, far), (back, -far)):
        nn.init.ones_(layer.weight)
        nn.init.constant_(layer.bias, by)
    return nn.Sequential(there, nn.ReLU(), back)


@pytest.mark.slow
def test_a_network_that_hides_in_the_rounding_is_searched_in_float32(
    trained: nn.Module, export: Callable[..., Path], image_dir: Path
) -> None:
    hidden = copy.deepcopy(trained)
    hidden.stem = nn.Sequential(hidden.stem, lost(8, 4096.0))
    for name, net, dtype in (("open", trained, "bfloat16"), ("hidden", hidden, "float32")):
        report = dry_run(export(name, net), image_dir, options=Options(precision="bfloat16", preprocess="unit"))
        assert report.verdict.outcome == NOT_SCANNED
        assert report.environment["search precision"] == dtype


def test_logits_without_room_for_their_squares_are_told() -> None:
    with pytest.raises(EvidenceError, match="logits reach 3e\\+30, too much"):
        check_logits(torch.tensor([[1e30, 0.0], [0.0, 3e30]]))
