"""What a file says itself of its pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from banscan import importers
from banscan.scanner.inputs import marks, preprocess

Export = Callable[..., Path]
Patterns = tuple[np.ndarray, np.ndarray]


class Net(nn.Module):
    """A convolution, a normalisation before or behind its ReLU, and a head; all of it drawn at random."""

    def __init__(self, norm: str | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 32, 3), nn.Linear(32, 10)
        self.before = nn.BatchNorm2d(32) if norm == "before" else nn.Identity()
        self.behind = nn.BatchNorm2d(32) if norm == "behind" else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.behind(self.before(self.conv(x)).relu()).mean((2, 3)))  # type: ignore[no-any-return]


class Scaled(nn.Module):
    """A net behind its own scaling."""

    def __init__(self, net: nn.Module, shift: float, scale: float) -> None:
        super().__init__()
        self.net, self.shift, self.scale = net, shift, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x - self.shift) / self.scale)  # type: ignore[no-any-return]


def kept(path: Path, images: np.ndarray) -> set[str]:
    """The candidates that the file does not speak against."""
    known = preprocess.candidates(images, labelled=False)
    return set(known) - set(marks.unlike(importers.load(path), known, images))


def test_a_file_that_says_nothing_rules_nothing_out(export: Export, patterns: Patterns) -> None:
    assert kept(export("marks-none", Net(None)), patterns[0][:24]) == set(preprocess.candidates(patterns[0], labelled=False))


@pytest.mark.parametrize(("shift", "scale", "right"), [(0.0, 255.0, "raw"), (0.45, 0.225, "unit"), (127.5, 127.5, "raw")])
def test_scaling_at_the_start_is_not_done_twice(export: Export, patterns: Patterns, shift: float, scale: float, right: str) -> None:
    found = kept(export(f"marks-{shift}-{scale}", Scaled(Net(None), shift, scale)), patterns[0][:24])
    assert right in found
    assert not found & ({"unit", "imagenet"} if right == "raw" else {"raw", "imagenet", "caffe"})


def trained(norm: str, images: np.ndarray, right: str) -> Net:
    """A net whose normalisation has seen the images under one preprocessing."""
    net = Net(norm)
    bn = net.before if norm == "before" else net.behind
    assert isinstance(bn, nn.BatchNorm2d)
    bn.momentum = None
    nn.init.uniform_(bn.weight, 0.5, 2)
    nn.init.normal_(bn.bias, std=0.2)
    with torch.no_grad():
        net.conv.weight += 0.1 * torch.randn(32, 3, 1, 1)
        net.train()(preprocess.candidates(images, labelled=False)[right](images, "NCHW"))
    return net.eval()


@pytest.mark.parametrize("norm", ["before", "behind"])
@pytest.mark.parametrize("right", ["unit", "signed", "imagenet"])
def test_running_statistics_tell_the_scale(tmp_path: Path, patterns: Patterns, norm: str, right: str) -> None:
    """Whether the normalisation stays a node or is folded into the convolution as the file is read."""
    images, path = patterns[0], tmp_path / "net.pt2"
    batch = {"x": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(trained(norm, images, right), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=batch), path)
    assert importers.load(path).statistics
    found = kept(path, images[:24])
    assert right in found
    assert not found & ({"unit", "raw", "signed", "imagenet"} - {right})


def test_pictures_that_no_statistics_fit_rule_nothing_out(export: Export, patterns: Patterns) -> None:
    images = np.full_like(patterns[0][:24], 255)
    path = export("marks-white", trained("behind", patterns[0], "unit"))
    assert importers.load(path).statistics
    assert kept(path, images) == set(preprocess.candidates(images, labelled=False))


def test_biases_that_take_off_a_mean_tell_it(export: Export, patterns: Patterns) -> None:
    """An exporter folds the normalisation into the convolution and forgets the statistics: shift - mean * sum(weights) is left."""
    path = export("marks-biases", trained("before", patterns[0], "unit"))
    assert not importers.load(path).statistics
    found = kept(path, patterns[0][:24])
    assert "unit" in found
    assert not found & {"raw", "signed", "centred"}
