"""How many images the trying of preprocessings takes, and what it makes of wrong scales."""

from pathlib import Path

import numpy as np
import pytest
import torch

from banscan import importers
from banscan.scanner.inputs import preprocess, support, trial

Patterns = tuple[np.ndarray, np.ndarray]


def images(side: int, channels: int = 3, grey: bool = False) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(0, 256, (2, side, side, channels)).astype(np.uint8)
    return np.repeat(drawn[..., :1], channels, -1) if grey else drawn


def test_candidates_fit_the_images() -> None:
    assert list(preprocess.candidates(images(64), labelled=True)) == [name for name in preprocess.NAMES if name != "half"]
    # CIFAR-10's numbers are for small images, of which they are more usual than ImageNet's
    assert not {"cifar10", "gtsrb", "mnist"} & set(preprocess.candidates(images(224), labelled=True))
    order = list(preprocess.candidates(images(32), labelled=True))
    assert order.index("cifar10") < order.index("imagenet")
    assert set(preprocess.candidates(images(224, channels=1), labelled=False)) == {"unit", "raw", "signed", "half", "mnist"}
    # grey pictures with three channels are the same in either order, means for each channel are not
    found = set(preprocess.candidates(images(64, grey=True), labelled=True))
    assert not {"unit-bgr", "raw-bgr", "signed-bgr"} & found
    assert {"imagenet-bgr", "caffe", "caffe-rgb"} <= found


@pytest.mark.parametrize("labelled", [True, False])
def test_few_images_where_a_pass_is_dear(model_file: Path, patterns: Patterns, monkeypatch: pytest.MonkeyPatch, labelled: bool) -> None:
    monkeypatch.setattr(trial, "DEAR", 500)
    monkeypatch.setattr(trial, "DEAREST", np.inf)
    pixels, labels = patterns
    choice = trial.choose(importers.load(model_file), pixels, torch.from_numpy(labels) if labelled else None)
    assert choice.preprocess.name == "unit"
    tried = {s.name: s.images for s in choice.table}
    assert max(tried.values()) <= trial.FEW[-1]
    assert sum(tried.values()) < len(pixels) * 2
    # the other order of the channels only of those that kept up
    assert ("unit-bgr" in tried) == labelled
    assert "raw-bgr" not in tried
    assert "imagenet-bgr" not in tried


def test_a_few_images_of_one_class_do_not_end_it(model_file: Path, patterns: Patterns, monkeypatch: pytest.MonkeyPatch) -> None:
    """All candidates say the same of them, and a wrong scale says so of any image."""
    monkeypatch.setattr(trial, "DEAR", 500)
    monkeypatch.setattr(trial, "DEAREST", np.inf)
    model, (pixels, labels) = importers.load(model_file), patterns
    one = pixels[labels == 3]
    plain = type(model).logits
    monkeypatch.setattr(type(model), "logits", lambda self, x: plain(self, x) * 1e-3 + 5 * torch.eye(10)[3])
    choice = trial.choose(model, one, None)
    assert max(s.images for s in choice.table) == min(len(one), trial.FEW[-1])


def test_several_that_are_left_are_tried_on_all(model_file: Path, patterns: Patterns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a pass is dear: each of them would have a scan of its own."""
    monkeypatch.setattr(trial, "DEAR", 500)
    monkeypatch.setattr(trial, "DEAREST", np.inf)
    monkeypatch.setattr(trial, "FEW", (2, 4, 8, 12))
    pixels, labels = patterns
    model = importers.load(model_file)
    assert max(s.images for s in trial.choose(model, pixels, torch.from_numpy(labels)).table) <= 12
    # nothing is ever clear, and nothing the same
    monkeypatch.setattr(trial, "RIVAL", np.inf)
    monkeypatch.setattr(trial, "SAME", 2.0)
    with pytest.raises(trial.UndecidedError) as raised:
        trial.choose(model, pixels, torch.from_numpy(labels))
    assert 2 <= len(raised.value.tried.rivals) <= trial.MOST
    assert {s.images for s in raised.value.tried.table if s.name in raised.value.tried.rivals} == {len(pixels)}


def seen(name: str, logits: torch.Tensor) -> support.Seen:
    return support.Seen(name, logits, None)


def test_logits_too_far_apart_are_those_of_a_wrong_scale() -> None:
    logits = torch.randn(48, 10, generator=torch.Generator().manual_seed(0))
    right, wrong = seen("right", 5 * logits), seen("wrong", 900 * logits.flip(0))
    assert support.overdriven([right, wrong]) == {"wrong"}
    # unless nothing else says as much
    collapsed = seen("collapsed", torch.eye(10)[:1].repeat(48, 1))
    assert support.overdriven([collapsed, wrong]) == set()
    assert support.overdriven([wrong]) == set()


def test_what_speaks_against_candidates_is_told() -> None:
    told = trial._told({"raw": "logits too far apart", **dict.fromkeys("abcde", "the file's first biases")})
    assert told == "; against raw: logits too far apart; against a, b, c and 2 more: the file's first biases"
    assert trial._told({}) == ""


@pytest.mark.parametrize("what", ["unlike", "overdriven"])
def test_a_file_that_speaks_against_its_own_preprocessing_does_not_hide_it(
    model_file: Path, patterns: Patterns, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whoever plants a backdoor can write first biases, statistics and a scale of the logits that go with another one."""
    own = {"unit": "the file's first biases", "signed": "the file's first biases"}
    if what == "unlike":
        monkeypatch.setattr(trial.marks, "unlike", lambda *_: own)
    else:
        monkeypatch.setattr(trial, "overdriven", lambda _: set(own))
    try:
        tried: trial.Tried = trial.choose(importers.load(model_file), patterns[0], None)
    except trial.UndecidedError as error:
        tried = error.tried
    left = tried.rivals or (tried.table[0].name,)
    assert "unit" in left
    assert "; against unit" in tried.reason


def test_groups_that_predict_the_same_are_likely_together() -> None:
    """Two that predict alike may be in front of one that is likelier than each of them."""
    generator = torch.Generator().manual_seed(0)
    ways = [6 * torch.eye(5)[torch.randint(0, 5, (100,), generator=generator)] for _ in range(2)]
    noise = 1.5 * torch.randn(100, 5, generator=generator)
    alone = support.Seen("alone", ways[0] + 0.9 * noise, None)
    pair = [support.Seen(name, ways[1] + noise, None) for name in ("one", "other")]
    turn = trial._Round([alone, *pair], [], {}, early=False, last=True)
    standing = turn.standing
    assert standing.chances["alone"] > standing.chances["one"]
    assert standing.best.name == "one"
    assert standing.together["one"] == pytest.approx(standing.chances["one"] + standing.chances["other"])
    table = trial._table(turn)
    assert [s.name for s in table] == ["one", "alone", "other"]
