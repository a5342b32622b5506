"""Named preprocessings and the automatic choice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from banscan import EvidenceError, UsageError, importers
from banscan.scanner.inputs import preprocess, support, trial
from banscan.scanner.machine import memory
from banscan.scanner.settings import Options


def test_values() -> None:
    images = np.full((1, 2, 2, 3), 255, np.uint8)
    images[..., 2] = 0
    by_name = {c.name: c for c in preprocess.CANDIDATES}
    assert by_name["unit"](images, "NCHW").amax() == 1
    assert by_name["raw"](images, "NHWC").shape == (1, 2, 2, 3)
    x = by_name["imagenet"](images, "NCHW")[0, :, 0, 0]
    assert torch.allclose(x, torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, -0.406 / 0.225]))
    caffe = by_name["caffe"](images, "NCHW")[0, :, 0, 0]
    assert torch.allclose(caffe, torch.tensor([-103.939, 255 - 116.779, 255 - 123.68]))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_made_anew_are_the_same(layout: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), np.uint8)
    way = preprocess.Preprocess("x", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), bgr=True)
    kept, anew = way(images, layout), preprocess.Preprocessed(images, way, layout)
    assert len(anew) == len(kept)
    for which in (slice(None), slice(1, None, 2), torch.tensor([6, 0, 0]), torch.arange(7) > 3):
        assert torch.equal(anew[which], kept[which])
    for own, other in zip(anew.split(3), kept.split(3), strict=True):
        assert torch.equal(own, other)
        assert own.stride() == other.stride()


def test_named() -> None:
    assert preprocess.given(Options(preprocess="auto")) is None
    chosen = preprocess.given(Options(preprocess="imagenet", bgr=True))
    assert chosen is not None
    assert chosen.bgr
    assert chosen.mean == (0.485, 0.456, 0.406)
    with pytest.raises(UsageError, match="nonsense"):
        preprocess.given(Options(preprocess="nonsense"))
    with pytest.raises(UsageError, match="--std"):
        preprocess.given(Options(preprocess="unit", std=(0.0,)))
    with pytest.raises(UsageError, match="2 values"):
        preprocess.given(Options(preprocess="unit", mean=(1.0, 2.0)))
    with pytest.raises(UsageError, match="--mean"):
        preprocess.given(Options(preprocess="unit", mean=(float("nan"),)))
    for scale in (0.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="--scale"):
            preprocess.given(Options(preprocess="unit", scale=scale))


@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize("name", ["auto", "imagenet", "caffe"])
def test_values_of_the_user_are_in_rgb_order(name: str, bgr: bool) -> None:
    """A pixel that is the mean of its own channel is 0, whatever the order in which the model takes the channels."""
    chosen = preprocess.given(Options(preprocess=name, mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 5.0), scale=1.0, bgr=bgr))
    assert chosen is not None
    pixels = np.array([10, 20, 30], np.uint8).reshape(1, 1, 1, 3)
    assert chosen(pixels, "NCHW").abs().max() == 0
    turned = bgr or name == "caffe"
    assert chosen(pixels + np.uint8(10), "NHWC").flatten().tolist() == ([2.0, 5.0, 10.0] if turned else [10.0, 5.0, 2.0])


class Inner(nn.Module):
    """A net behind a fixed affine map of its pixels, so that another preprocessing is the right one."""

    def __init__(self, net: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.net, self.scale, self.shift = net, scale, shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x * self.scale + self.shift)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("right", "scale", "shift"), [("unit", 1.0, 0.0), ("raw", 1 / 255, 0.0), ("signed", 0.5, 0.5)])
def test_auto_finds_the_right_one(export, trained, patterns, right: str, scale: float, shift: float, labelled: bool) -> None:  # type: ignore[no-untyped-def]
    model = importers.load(export(f"pre-{right}", Inner(trained, scale, shift)))
    try:
        choice = trial.choose(model, patterns[0], torch.from_numpy(patterns[1]) if labelled else None)
    except trial.UndecidedError:
        # several have mean and deviation much as this one, which nothing but labels tells apart
        assert (right, labelled) == ("signed", False)
        return
    chosen = choice.preprocess(patterns[0], "NCHW")
    agreement = (
        (trained(chosen * scale + shift).argmax(1) == trained(torch.from_numpy(patterns[0]).permute(0, 3, 1, 2) / 255).argmax(1))
        .float()
        .mean()
    )
    assert choice.table[0].name == choice.preprocess.name
    assert {s.name for s in choice.table} == set(preprocess.candidates(patterns[0], labelled))
    counts = {s.name: s.images for s in choice.table}
    assert counts[choice.preprocess.name] == len(patterns[0])
    assert min(counts.values()) == trial.FIRST[0], "who is far behind is not tried on all"
    assert agreement > 0.95


def test_auto_gives_up_when_nothing_stands_out(model_file: Path) -> None:
    """Noise as images: every candidate is as bad as the others, and they disagree."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (100, 16, 16, 3)).astype(np.uint8)
    sentence = r"do more than \d+\.\d% of the images get their label: the images or their labels are not"
    with pytest.raises(EvidenceError, match=sentence) as told:
        trial.choose(importers.load(model_file), images, torch.from_numpy(rng.integers(0, 10, 100)))
    assert isinstance(told.value, trial.UndecidedError)
    assert (told.value.tried.preprocess, told.value.tried.rivals) == (None, ())
    assert {s.name for s in told.value.tried.table} == set(preprocess.candidates(images, labelled=True))


@pytest.mark.parametrize(("classes", "share"), [(2, 0.6), (4, 0.35), (10, 0.2), (43, 0.1), (1000, 0.1)])
def test_what_guessing_may_come_to(classes: int, share: float) -> None:
    assert trial.guessed(classes) == pytest.approx(share)


def test_labels_in_another_order_do_not_decide(model_file: Path, patterns: tuple[np.ndarray, np.ndarray]) -> None:
    choice = trial.choose(importers.load(model_file), patterns[0], torch.from_numpy((patterns[1] + 1) % 10))
    assert choice.preprocess.name == choice.table[0].name == "unit"
    assert "labels in another order" in choice.reason


def test_images_are_answered_in_batches(model_file: Path, patterns: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    model, unit = importers.load(model_file), preprocess.CANDIDATES[0]
    whole = preprocess.answers(model, unit, patterns[0])
    sizes: list[int] = []
    monkeypatch.setitem(memory.FORWARD, "cpu", 7 * 8 * 16 * 16 * 4)
    monkeypatch.setattr(type(model), "logits", lambda self, x: sizes.append(len(x)) or self.module(x))
    assert torch.allclose(preprocess.answers(model, unit, patterns[0]), whole, atol=1e-5)
    assert sizes == [7] * 28 + [4]


def test_all_images_decide_where_a_part_leaves_it_open(model_file: Path, patterns: tuple[np.ndarray, np.ndarray]) -> None:
    """A first sample that fits nothing, among images that one candidate fits."""
    images, labels = patterns[0].copy(), torch.from_numpy(patterns[1])
    sample = np.linspace(0, len(images) - 1, 20).astype(int)
    images[sample] = np.random.default_rng(1).integers(0, 256, images[sample].shape)
    choice = trial.choose(importers.load(model_file), images, labels, limit=20)
    assert choice.preprocess.name == "unit"
    assert "on up to 200 images" in choice.reason


def test_a_tie_of_accuracy_is_decided_by_the_likelihood() -> None:
    """Both get the same share of the images right; one is unsure where it is wrong, whatever the scale of its logits."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (200,), generator=generator)
    logits = 4 * torch.nn.functional.one_hot(labels, 10) + torch.randn(200, 10, generator=generator)
    wrong = torch.arange(200) < 60
    sure, unsure = logits.clone(), logits.clone()
    sure[wrong] = 4 * torch.nn.functional.one_hot((labels[wrong] + 1) % 10, 10) + torch.randn(60, 10, generator=generator)
    unsure[wrong] = torch.randn(60, 10, generator=generator)
    for scale in (0.1, 1.0, 30.0):
        best, other = support.losses(scale * unsure, labels), support.losses(sure, labels)
        gap = other - best
        assert float(gap.mean()) > 4 * float(gap.std()) / 200**0.5
        assert float(best.mean()) == pytest.approx(float(support.losses(unsure, labels).mean()), rel=1e-3)


def found_without_labels(model: importers.TracedModel, images: np.ndarray) -> str:
    """The one that is taken, or the likeliest where several are left."""
    try:
        return trial.choose(model, images, None).preprocess.name
    except trial.UndecidedError as error:
        return error.tried.rivals[0]


def test_without_labels_a_surer_scale_is_not_taken_for_the_right_one(
    export: Callable[..., Path], trained: nn.Module, patterns: tuple[np.ndarray, np.ndarray]
) -> None:
    """On pixels from 0 to 255 a model of pixels from 0 to 1 is sure of everything, and answers otherwise."""

    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.1 * self.net(x) + 0.5 * torch.arange(10) / 10

    model = importers.load(export("pre-biased", Biased()))
    answers = {c.name: preprocess.answers(model, c, patterns[0]) for c in preprocess.CANDIDATES[:2]}
    supports = {name: support.support(name, logits, None) for name, logits in answers.items()}
    assert supports["raw"].information > supports["unit"].information
    assert float((answers["raw"].argmax(1) == answers["unit"].argmax(1)).double().mean()) < trial.SAME
    assert found_without_labels(model, patterns[0]) == "unit"
    assert trial.choose(model, patterns[0], torch.from_numpy(patterns[1])).preprocess.name == "unit"


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_logits_out_of_all_bounds_under_another_scale_do_not_decide(
    model_file: Path, patterns: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """Half precision overflows on pixels from 0 to 255."""
    model = importers.load(model_file)
    plain = type(model).logits

    def logits(self: importers.TracedModel, x: torch.Tensor) -> torch.Tensor:
        found = plain(self, x).clone()
        if x.max() > 10:
            found[:, 0], found[:, 1] = value, -value
        return found

    monkeypatch.setattr(type(model), "logits", logits)
    assert trial.choose(model, patterns[0], torch.from_numpy(patterns[1])).preprocess.name == "unit"


def test_the_most_usual_of_those_that_nothing_tells_apart(export: Callable[..., Path], patterns: tuple[np.ndarray, np.ndarray]) -> None:
    """A network that answers the same at every scale, as those without a bias do."""

    class Scaleless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(3 * 16 * 16, 10, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.flatten(1))

    model = importers.load(export("scaleless", Scaleless()))
    labels = preprocess.answers(model, preprocess.CANDIDATES[0], patterns[0]).argmax(1)
    assert trial.choose(model, patterns[0], labels).preprocess.name == "unit"
