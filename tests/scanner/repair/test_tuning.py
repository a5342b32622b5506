"""Fine-tuning of Eq. 8: the form that is trained is the model, noise is Eq. 3, lambda_2 = 0 is plain, an interruption changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from banscan import ModelError, importers
from banscan.importers import TracedModel
from banscan.importers.normal import weights
from banscan.scanner.repair import trainable, tuning
from banscan.scanner.repair.trainable import State
from banscan.scanner.repair.tuning import Tuning
from tests.conftest import random_norms
from tests.importers import matrix
from tests.importers.architectures import FAMILIES
from tests.importers.architectures import images as pictures

QUICK = Tuning(epochs=2, batch=40, lr=0.01)
LIMITS = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)


@pytest.fixture(scope="module")
def model(model_file: Path) -> TracedModel:
    return importers.load(model_file)


@pytest.fixture(scope="module")
def data(patterns: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(patterns[0]).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(patterns[1])


def trained(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor], settings: Tuning, aims: torch.Tensor | None = None) -> State:
    state = trainable.start(model, data[0])
    for _ in range(settings.epochs):
        tuning.epoch(model, state, *data, settings, limits=LIMITS, aims=aims)
    return state


def test_the_form_that_is_trained_is_the_model(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """One batch holds all images, so its statistics are those that scale and shift come from."""
    x = data[0]
    values = trainable.start(model, x).values
    own = trainable.Pass(model, values).run(x)
    assert float((own - model.logits(x)).norm() / own.norm()) < 1e-3


def test_many_images_are_seen_in_equal_parts(
    model: TracedModel, data: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single image left over would have the say of all others together, and images lie in the order of their classes."""
    monkeypatch.setattr(trainable, "MANY", 6)
    for count in (1, 6, 7, 13, 200):
        parts = trainable.parts(torch.arange(count))
        assert torch.cat(parts).sort().values.equal(torch.arange(count))
        assert max(map(len, parts)) <= min(6, min(map(len, parts)) + 1)
        assert max(int(part[0]) for part in parts) < len(parts)
    values = trainable.start(model, data[0].repeat_interleave(6, 0)).values  # more than are enough
    for name, value in trainable.start(model, data[0]).values.items():
        assert torch.allclose(values[name], value, rtol=1e-4, atol=1e-5), name


def test_masks_are_those_of_anp(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """(m + delta) on the scale, (1 + xi) on the shift (Wu and Wang, Eq. 6), m in [0, 1]; nothing else is trained."""
    x, y = data
    state = trainable.start(model, x, masked=True)
    before = {name: value.clone() for name, value in state.values.items()}
    node = next(name.removeprefix("mask/") for name in before if name.startswith("mask/"))
    noise = {node: (torch.full_like(before[f"mask/{node}"], 0.3), torch.full_like(before[f"mask/{node}"], -0.2))}
    values = {**before, f"mask/{node}": torch.full_like(before[f"mask/{node}"], 0.5)}
    scaled = {**before, f"scale/{node}": before[f"scale/{node}"] * 0.8, f"shift/{node}": before[f"shift/{node}"] * 0.8}
    assert torch.allclose(trainable.Pass(model, values, noise).run(x), trainable.Pass(model, scaled).run(x), atol=1e-4)
    for _ in range(3):
        tuning.epoch(model, state, x, y, replace(tuning.ANP, lr=0.5, batch=40), limits=LIMITS)
    for name, value in state.values.items():
        if name.startswith("mask/"):
            assert 0 <= float(value.min()) < 1 >= float(value.max())
        else:
            assert torch.equal(value, before[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("source", ["ONNX 11, old exporter", "ONNX 18, new exporter"])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"vit_token", "vit_multihead", "vit_pooled"}))
def test_untrained_weights_come_back(tmp_path: Path, family: str, source: str) -> None:
    """Into the trained form and back through the file's own weights: the same model."""
    path = matrix.write(family, source, tmp_path)
    if path is None:
        pytest.skip("PyTorch cannot write it")
    model, x = importers.load(path), pictures(16)
    if family == "without norms" and "old" in source:
        with pytest.raises(ModelError, match="computed from others"):  # its weights are standardised inside the graph
            weights.check_invertible(model)
        return
    weights.check_invertible(model)
    back = trainable.finished(model, trainable.start(model, x), x)
    assert back.keys() == weights.writable(model).keys()
    own, again = model.logits(x), tuning.logits(model, back, x)
    assert float((own - again).norm() / own.norm()) < 1e-2


def test_constants_of_a_training_are_reached(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """`written` finds weights that fold into given constants, for batch norms beside their convolutions too."""
    generator = torch.Generator().manual_seed(0)
    constants = {}
    for neuron in model.neurons:
        for name in weights.roles(model, neuron):
            if name is not None:
                value = importers.graph.attribute_named(model.module, name)
                constants[name] = value + 0.1 * torch.randn(value.shape, generator=generator)
    reached = model.constants(weights.written(model, constants))
    for name, value in constants.items():
        assert torch.allclose(reached[name], value, atol=1e-5), name


def test_noise_acts_on_scale_and_shift(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """(1 + delta) scale and (1 + xi) shift (Eq. 3), against the same with scale and shift moved by hand."""
    x = data[0][:20]
    values = trainable.start(model, x).values
    name = next(n.removeprefix("scale/") for n in values if n.startswith("scale/"))
    delta, xi = 0.3 * torch.randn(2, len(values[f"scale/{name}"]))
    moved = dict(values)
    moved[f"scale/{name}"], moved[f"shift/{name}"] = values[f"scale/{name}"] * (1 + delta), values[f"shift/{name}"] * (1 + xi)
    assert torch.equal(trainable.Pass(model, values, {name: (delta, xi)}).run(x), trainable.Pass(model, moved).run(x))
    assert not torch.allclose(trainable.Pass(model, values).run(x), trainable.Pass(model, moved).run(x), atol=1e-2)


@pytest.mark.parametrize("aimed", [True, False])
def test_search_stays_in_its_bound_and_pays(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor], aimed: bool) -> None:
    x, y = data
    values = trainable.start(model, x).values
    goal, sign = (torch.full_like(y, 3), -1.0) if aimed else (y, 1.0)
    settings = replace(QUICK, eps=0.4, steps=4)
    found = tuning.search(model, values, x, goal, sign, settings, torch.Generator().manual_seed(0))
    assert max(float(v.abs().max()) for pair in found.values() for v in pair) <= 0.4 + 1e-6
    before, after = (float(F.cross_entropy(trainable.Pass(model, values, n).run(x), goal)) for n in ({}, found))
    assert sign * after > sign * before


@pytest.mark.parametrize("aimed", [True, False])
def test_noise_on_pixels_stays_in_its_ball_and_pays(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor], aimed: bool) -> None:
    x, y = data
    values, radius = trainable.start(model, x).values, 0.05
    goal, sign = (torch.full_like(y, 3), -1.0) if aimed else (y, 1.0)
    change, losses = 1e-3 * torch.randn(1, *x.shape[1:], generator=torch.Generator().manual_seed(0)), []
    for _ in range(6):
        both = trainable.Pass(model, values).run(torch.cat((x, tuning.shifted(x, change, LIMITS))))
        losses.append(sign * float(F.cross_entropy(both[len(x) :], goal)))
        change = tuning.nudged(model, values, x, change, goal, sign, LIMITS, radius)
        assert float(change.square().mean().sqrt()) <= radius * (1 + 1e-5)
    assert losses[-1] > losses[0]


@pytest.mark.slow
def test_pasted_patches_lose_their_effect(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = data
    pasted = torch.zeros(2, *x.shape[1:])
    pasted[0, :, :6, :6], pasted[1, :, 9:, 9:] = 1.0, -1.0
    how = replace(QUICK, epochs=4, pixels=0.0)

    def loss(patches: torch.Tensor | None) -> float:
        state = trainable.start(model, x)
        for _ in range(how.epochs):
            tuning.epoch(model, state, x, y, how, limits=LIMITS, aims=0 * torch.arange(10), pasted=patches)
        changed = torch.cat([tuning.shifted(x, change[None], LIMITS) for change in pasted])
        with torch.no_grad():
            return float(F.cross_entropy(trainable.Pass(model, state.values).run(changed), y.repeat(2)))

    assert loss(pasted) < 0.8 * loss(None)


@pytest.mark.slow
def test_the_given_model_is_the_teacher(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """T^2 times the divergence of the softened probabilities, in float64; and what follows it stays nearer to the given model."""
    x = data[0]
    own, given = (t.double() / tuning.TEMPERATURE for t in (torch.randn(len(x), 10), model.logits(x)))
    theirs = given.softmax(1)
    expected = tuning.TEMPERATURE**2 * (theirs * (theirs.log() - own.log_softmax(1))).sum(1).mean()
    answers = (own * tuning.TEMPERATURE).float().requires_grad_()
    found = tuning.distance(model, x, answers)
    assert torch.allclose(found.double(), expected, rtol=1e-4)
    (gradient,) = torch.autograd.grad(found, answers)
    reference = tuning.TEMPERATURE * (own.softmax(1) - theirs) / len(x)
    assert torch.allclose(gradient.double(), reference, atol=1e-6)

    def away(teacher: float) -> float:
        state = trained(model, data, replace(QUICK, epochs=4, teacher=teacher))
        with torch.no_grad():
            return float(tuning.distance(model, x, trainable.Pass(model, state.values).run(x)))

    assert away(0.9) < 0.8 * away(0.0)


def test_the_teacher_is_not_asked_about_the_attacked_class(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The divergence is that among the other classes and does not pull at the attacked one; images of that class keep all of theirs."""
    x, y = data[0], torch.arange(len(data[0])) % 10
    goal = torch.full_like(y, 3)
    hidden = tuning.attacked(goal, y, 10)
    assert torch.equal(hidden, (y != 3)[:, None] & (torch.arange(10) == 3))
    answers = torch.randn(len(x), 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = tuning.distance(model, x, answers, hidden)
    terms = []
    for own, given, left in zip(answers.detach().double(), model.logits(x).double(), ~hidden, strict=True):
        theirs = (given[left] / tuning.TEMPERATURE).softmax(0)
        terms.append(tuning.TEMPERATURE**2 * (theirs * (theirs.log() - (own[left] / tuning.TEMPERATURE).log_softmax(0))).sum())
    assert torch.allclose(found.double(), torch.stack(terms).mean(), rtol=1e-4)
    (gradient,) = torch.autograd.grad(found, answers)
    assert gradient.isfinite().all()
    assert not gradient[hidden].any()
    assert gradient[y == 3, 3].all()


def test_changes_of_pixels_are_in_units_of_their_range() -> None:
    """What is black and white to the model decides, for each channel."""
    low, high = torch.tensor([-2.0, 0.0, 10.0]).reshape(1, 3, 1, 1), torch.tensor([2.0, 1.0, 30.0]).reshape(1, 3, 1, 1)
    pixels, change = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)), torch.full((1, 3, 5, 5), 0.25)
    moved = tuning.shifted(low + (high - low) * pixels, change, (low, high))
    assert torch.allclose((moved - low) / (high - low), (pixels + 0.25).clamp(max=1), atol=1e-5)


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
    assert all(torch.allclose(importers.graph.attribute_named(model.module, name), tuned[name], atol=1e-6) for name in names)


@pytest.mark.slow
def test_without_weight_it_is_plain_fine_tuning(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """lambda_2 = 0, whatever the noise: the same numbers as a loop that knows of none."""
    one = trained(model, data, replace(QUICK, weight=0.0, eps=0.1))
    other = trained(model, data, replace(QUICK, weight=0.0, eps=0.9, steps=7), torch.full((10,), 3))
    assert all(torch.equal(value, other.values[name]) for name, value in one.values.items())
    noisy = trained(model, data, QUICK)
    assert not all(torch.equal(value, noisy.values[name]) for name, value in one.values.items())


@pytest.mark.slow
def test_an_interruption_changes_nothing(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    whole = trained(model, data, QUICK)
    state = trainable.start(model, data[0])
    tuning.epoch(model, state, *data, QUICK, limits=LIMITS)
    state = State({k: v.clone() for k, v in state.values.items()}, {k: v.clone() for k, v in state.momenta.items()}, 1, state.pixels)
    tuning.epoch(model, state, *data, QUICK, limits=LIMITS)
    assert all(torch.equal(value, state.values[name]) for name, value in whole.values.items())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_augmented_images_are_crops(layout: str) -> None:
    x = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).reshape(2, 3, 16, 16)
    x = x if layout == "NCHW" else x.movedim(1, -1)
    y = tuning.augment(x, False, torch.Generator().manual_seed(1), layout)
    assert y.shape == x.shape
    own = y if layout == "NCHW" else y.movedim(-1, 1)
    assert torch.equal(own[:, 1] - own[:, 0], torch.full((2, 16, 16), 256.0))


def test_mirroring_only_where_it_is_suited(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = data
    symmetric = (x + x.flip(3)) / 2
    known = model.logits(symmetric).argmax(1)
    assert tuning.suited(QUICK, model, symmetric, known, 0.02).flip
    assert not tuning.suited(QUICK, model, x, y, 0.02).flip


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
    assert float((tuning.logits(model, tuned, x) - model.logits(x)).norm()) > 0
