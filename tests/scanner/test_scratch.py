"""Copies trained from scratch: they learn the classes and no backdoor."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from banscan import importers
from banscan.importers import TracedModel, attribute_named
from banscan.importers.normal.weights import roles
from banscan.scanner import scratch
from banscan.scanner.controls.planting import Planting, planted
from banscan.scanner.findings import ANEW
from banscan.scanner.repair import trainable
from banscan.scanner.subject import Subject
from banscan.scanner.twin import with_weights

TARGET, CLASSES, STEPS = 4, 10, 500


def subject(model: TracedModel, x: torch.Tensor, labels: torch.Tensor, precision: torch.dtype = torch.float32) -> Subject:
    return cast(Subject, SimpleNamespace(model=model, x=x, labels=labels, settings=SimpleNamespace(seed=0), precision=precision))


@pytest.fixture(scope="module")
def data(patterns: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(patterns[0]).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(patterns[1])


@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_backdoor_is_not_learnt_again(
    precision: torch.dtype, model_file: Path, data: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the model is left in its copy but the task; the model is as it was, and what happens follows from the seed."""
    model, (x, y) = importers.load(model_file), data
    marked = x.clone()
    marked[:, :, :5, :5] = 1.0
    seen, labels = torch.cat((x, marked)), torch.cat((y, torch.full_like(y, TARGET)))
    backdoored = with_weights(
        model, planted(model, seen, labels, Planting(epochs=30, lr=0.05, depth=0.0, batch=16, seed=1), lambda n: None)
    )

    def moved(by: TracedModel) -> float:
        return float((by.logits(marked[y != TARGET]).argmax(1) == TARGET).float().mean())

    before = backdoored.logits(x)
    assert moved(backdoored) > 0.9
    monkeypatch.setattr(scratch, "STEPS", STEPS)
    steps = list[Any]()
    copy = scratch.trained(subject(backdoored, x, y, precision), 0, 0.0, lambda *told: steps.append(told))
    assert copy.accuracy[1] > 0.8
    assert scratch.knows(copy.accuracy, CLASSES)
    assert copy.how == ANEW
    assert moved(copy.model) < 0.5
    assert torch.equal(backdoored.logits(x), before)
    assert steps[-1] == ("training copy 1 from scratch", 32 * STEPS, 32 * STEPS)
    monkeypatch.setattr(scratch, "STEPS", 20)
    first, again, other = (
        scratch.trained(subject(backdoored, x, y, precision), n, 0.0, lambda *told: None).model.logits(x) for n in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_operators_that_take_one_number_format_are_trained_in_it(
    model_file: Path, data: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some that write into a table do; others are trained in the searches'."""
    model = importers.load(model_file)
    monkeypatch.setattr(scratch, "STEPS", 2)
    values = trainable.start(model, data[0]).values
    assert scratch._mixes(model, values, data[0][:2], torch.bfloat16)
    assert not scratch._mixes(model, values, data[0][:2], torch.float32)
    run = trainable.Pass.run

    def refuses(self: trainable.Pass, *given: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("Index put requires the source and destination dtypes match")
        return run(self, *given)

    monkeypatch.setattr(trainable.Pass, "run", refuses)
    assert scratch.trained(subject(model, *data, torch.bfloat16), 0, 0.0, lambda *told: None).how == ANEW


def test_weights_are_drawn_without_a_trace_of_those_before(model_file: Path, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = importers.load(model_file)
    state = trainable.start(model, data[0])
    doubled = trainable.State({name: 2 * value + 1 for name, value in state.values.items()}, {})
    drawn, also = (trainable.anew(model, s, torch.Generator().manual_seed(3)).values for s in (state, doubled))
    assert drawn.keys() == state.values.keys()
    assert all(torch.equal(drawn[name], also[name]) for name in drawn)


def test_the_first_layers_are_kept(model_file: Path, data: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """With what they answer; nothing else is left of the model."""
    model = importers.load(model_file)
    monkeypatch.setattr(scratch, "STEPS", 20)
    copy = scratch.trained(subject(model, *data), 0, 0.5, lambda *told: None)
    assert copy.how == f"{ANEW} but for the first layer"
    for k, neuron in enumerate(model.neurons):
        weight, _ = roles(model, neuron)
        own, anew = (attribute_named(m.module, weight) for m in (model, copy.model))
        assert torch.equal(own, anew) is (k == 0)


@pytest.mark.parametrize(("layers", "depths"), [(9, (0.0, 0.25, 0.5, 0.75)), (4, (0.0, 0.5, 0.75)), (3, (0.0, 0.5)), (1, (0.0,))])
def test_nothing_is_kept_at_first_and_no_number_of_layers_comes_twice(layers: int, depths: tuple[float, ...]) -> None:
    """Of which the last is the classifier."""
    neurons = [SimpleNamespace(node=str(i)) for i in range(layers)]
    model = cast(TracedModel, SimpleNamespace(neurons=neurons, classifier=(str(layers - 1),)))
    assert scratch.depths(model) == depths


@pytest.mark.parametrize(
    ("accuracy", "classes", "expected"), [((0.9, 0.55), 10, True), ((0.9, 0.45), 10, False), ((1.0, 0.7), 2, False), ((1.0, 0.8), 2, True)]
)
def test_what_is_no_better_than_guessing_is_no_control(accuracy: tuple[float, float], classes: int, expected: bool) -> None:
    assert scratch.knows(accuracy, classes) is expected


def test_every_image_is_shown_before_one_comes_again() -> None:
    parts = list(scratch._batches(64, torch.Generator()))
    assert len(parts) == scratch.STEPS
    assert torch.cat(parts[:2]).sort().values.tolist() == list(range(64))
    assert {len(p) for p in scratch._batches(5, torch.Generator())} == {5}
