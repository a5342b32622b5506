"""Fine-tuning of Eq. 8: masks are ANP's, patches lose their effect, lambda_2 = 0 is plain, an interruption changes nothing."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from banscan import importers
from banscan.errors import EvidenceError
from banscan.importers import TracedModel, attribute_named
from banscan.importers.normal import weights
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.machine.progress import silent
from banscan.scanner.repair import answers, noise, trainable, tuning
from banscan.scanner.repair.course import Course
from banscan.scanner.repair.settings import ANP, METHODS, plain
from banscan.scanner.repair.trainable import State
from tests.conftest import random_norms
from tests.importers import matrix
from tests.importers.architectures import images as pictures
from tests.scanner.repair.conftest import LIMITS, QUICK, tuned


def test_masks_are_those_of_anp(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """(m + delta) on the scale, (1 + xi) on the shift (Wu and Wang, Eq. 6), m in [0, 1]; nothing else is trained."""
    x, y = data
    state = trainable.start(model, x, masked=True)
    before = {name: value.clone() for name, value in state.values.items()}
    node = next(name.removeprefix("mask/") for name in before if name.startswith("mask/"))
    moved = {node: (torch.full_like(before[f"mask/{node}"], 0.3), torch.full_like(before[f"mask/{node}"], -0.2))}
    values = {**before, f"mask/{node}": torch.full_like(before[f"mask/{node}"], 0.5)}
    scaled = {**before, f"scale/{node}": before[f"scale/{node}"] * 0.8, f"shift/{node}": before[f"shift/{node}"] * 0.8}
    assert torch.allclose(trainable.Pass(model, values, moved).run(x), trainable.Pass(model, scaled).run(x), atol=1e-4)
    for _ in range(3):
        tuning.epoch(model, state, x, y, replace(METHODS[ANP], lr=0.5, batch=40), limits=LIMITS)
    for name, value in state.values.items():
        if name.startswith("mask/"):
            assert 0 <= float(value.min()) < 1 >= float(value.max())
        else:
            assert torch.equal(value, before[name]), name


def test_without_biases_nothing_is_tuned_against_noise(export: Callable[..., Path], data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """A sentence, as of all that cannot be; plain fine-tuning goes on."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, bias=False), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(32, 10))
    bare = importers.load(export("without_biases", net))
    x, y = data
    for how, works in ((QUICK, False), (plain(QUICK), True)):
        course = Course(bare, Preprocess("unit"), how, x, y, LIMITS, None)
        state = trainable.start(bare, x)
        with nullcontext() if works else pytest.raises(EvidenceError, match="no layer below the classifier has a bias"):
            course.run(state, [], stage="tuning", progress=silent)


def test_pasted_patches_lose_their_effect(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = data
    pasted = torch.zeros(2, *x.shape[1:])
    pasted[0, :, :6, :6], pasted[1, :, 9:, 9:] = 1.0, -1.0
    how = replace(QUICK, epochs=4, pixels=0.0)

    def loss(patches: torch.Tensor | None) -> float:
        state = trainable.start(model, x)
        for _ in range(how.epochs):
            tuning.epoch(model, state, x, y, how, limits=LIMITS, aims=0 * torch.arange(10), pasted=patches)
        changed = torch.cat([noise.shifted(x, change[None], LIMITS) for change in pasted])
        with torch.no_grad():
            return float(F.cross_entropy(trainable.Pass(model, state.values).run(changed), y.repeat(2)))

    assert loss(pasted) < 0.8 * loss(None)


def test_layers_in_front_stay_as_they_are(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    x = data[0]
    last = trainable.start(model, x, depth=0.5)
    for _ in range(2):
        tuning.epoch(model, last, *data, QUICK, limits=LIMITS)
    below = [n for n in model.neurons if n.node not in model.classifier]
    front = [n for n in below if f"scale/{n.node}" not in last.values]
    assert front == below[: len(below) // 2]
    tuned = model.constants(trainable.finished(model, last, x))
    names = [name for neuron in front for name in weights.roles(model, neuron) if name is not None]
    assert names
    assert all(torch.allclose(attribute_named(model.module, name), tuned[name], atol=1e-6) for name in names)


@pytest.mark.slow
def test_without_weight_it_is_plain_fine_tuning(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """lambda_2 = 0, whatever the noise: the same numbers as a loop that knows of none."""
    one = tuned(model, data, replace(QUICK, weight=0.0, eps=0.1))
    other = tuned(model, data, replace(QUICK, weight=0.0, eps=0.9, steps=7), torch.full((10,), 3))
    assert all(torch.equal(value, other.values[name]) for name, value in one.values.items())
    noisy = tuned(model, data, QUICK)
    assert not all(torch.equal(value, noisy.values[name]) for name, value in one.values.items())


@pytest.mark.slow
def test_an_interruption_changes_nothing(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    whole = tuned(model, data, QUICK)
    state = trainable.start(model, data[0])
    tuning.epoch(model, state, *data, QUICK, limits=LIMITS)
    state = State({k: v.clone() for k, v in state.values.items()}, {k: v.clone() for k, v in state.momenta.items()}, 1, state.pixels)
    tuning.epoch(model, state, *data, QUICK, limits=LIMITS)
    assert all(torch.equal(value, state.values[name]) for name, value in whole.values.items())


@pytest.mark.slow
def test_layers_of_a_transformer(tmp_path: Path) -> None:
    path = matrix.write("vit_plain", "ONNX 18, new exporter", tmp_path)
    assert path is not None
    model, x = importers.load(path), pictures(32)
    y = model.logits(x).argmax(1)
    state = trainable.start(model, x)
    first = tuning.epoch(model, state, x, y, replace(QUICK, batch=16), limits=LIMITS)
    assert all(np.isfinite(first))


def test_net_with_norms_of_its_own(export: Callable[..., Path]) -> None:
    """A batch norm that cannot be folded is tuned as it stands."""
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    path = export("norms", random_norms(net))
    model, x = importers.load(path), torch.rand(40, 3, 16, 16)
    assert model.neurons[0].kind == "norm"
    state = trainable.start(model, x)
    tuning.epoch(model, state, x, torch.arange(40) % 10, QUICK, limits=LIMITS)
    tuned = trainable.finished(model, state, x)
    assert float((answers.logits(model, tuned, x) - model.logits(x)).norm()) > 0
