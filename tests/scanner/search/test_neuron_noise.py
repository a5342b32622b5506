"""The noise on whole models and its search."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from banscan import importers
from banscan.importers import TracedModel
from banscan.scanner.search import neuron_noise
from banscan.scanner.search.noisy_layers import views
from banscan.scanner.search.noisy_model import NoisyModel, attach, layers, measure
from tests.importers.onnx.test_reader import ARCHITECTURES


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def traced(request: pytest.FixtureRequest, export) -> TracedModel:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    from tests.conftest import random_norms

    return importers.load(export(f"search-{request.param}", random_norms(ARCHITECTURES[request.param][0]())))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def build(model: TracedModel, images: torch.Tensor, form: str, depth: float) -> NoisyModel:
    neurons = layers(model, depth)
    return attach(model, neurons, measure(model, neurons, images) if form == "normalised" else None)


@pytest.mark.parametrize("form", ["normalised", "paper"])
@pytest.mark.parametrize("depth", [0.0, 0.5, 0.9])
def test_zero_noise_changes_nothing(traced: TracedModel, images: torch.Tensor, form: str, depth: float) -> None:
    """The normalised form is the identity on the images that its statistics were measured on."""
    model = build(traced, images, form, depth)
    logits, features = neuron_noise.logits_under(model, model.prepare(images), torch.zeros(2, model.size))
    expected = traced.logits(images)
    for own in logits:
        assert torch.allclose(own, expected, atol=2e-3 * float(expected.abs().max()))
    expected = traced.split(traced.features)[0](images)
    assert float((features - expected).norm() / expected.norm()) < 2e-3


def test_more_images_than_memory_has_room_for_are_seen_in_parts(traced: TracedModel, images: torch.Tensor) -> None:
    """Without statistics of a batch the parts are what the whole is, in the order of the images."""
    model = build(traced, images, "paper", 0.5)
    prepared = model.prepare(images)
    noise = neuron_noise.start(model, 2, 0.2, 0, "linf")
    whole, parts = (neuron_noise.logits_under(replace(model, together=most), prepared, noise) for most in (12, 5))
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))


def test_what_a_faster_copy_prepared_is_read_in_float32(traced: TracedModel, images: torch.Tensor) -> None:
    neurons = layers(traced, 0.5)
    exact, fast = attach(traced, neurons, None), attach(traced, neurons, None, torch.bfloat16)
    prepared = fast.prepare(images)
    assert any(p.dtype == torch.bfloat16 for p in prepared)
    noise = torch.zeros(1, exact.size)
    own, _ = neuron_noise.logits_under(exact, prepared, noise)
    expected, _ = neuron_noise.logits_under(exact, exact.prepare(images), noise)
    assert float((own - expected).norm() / expected.norm()) < 0.05


@pytest.mark.parametrize("form", ["normalised", "paper"])
def test_restarts_do_not_meet(traced: TracedModel, images: torch.Tensor, form: str) -> None:
    """K restarts as one batch give what each gives alone, gradients included."""
    model = build(traced, images, form, 0.0)
    prepared = model.prepare(images)
    noise = neuron_noise.start(model, 3, 0.2, 0, "linf").requires_grad_()
    logits, _ = model.run(prepared, noise)
    (grad,) = torch.autograd.grad(logits.square().sum(), noise)
    for k in range(3):
        row = noise[k : k + 1].detach().requires_grad_()
        own, _ = model.run(prepared, row)
        (own_grad,) = torch.autograd.grad(own.square().sum(), row)
        assert torch.allclose(own, logits.unflatten(0, (3, -1))[k], atol=1e-4, rtol=1e-4)
        assert float((own_grad - grad[k]).norm()) <= 1e-3 * float(grad[k].norm())


def test_gradient_matches_reference_in_float64(traced: TracedModel, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of the whole search loss, fast kernels in float32 against plain torch in float64."""
    model = build(traced, images, "normalised", 0.0)
    noise = neuron_noise.start(model, 2, 0.2, 0, "linf").requires_grad_()
    logits, _ = model.run(model.prepare(images), noise)
    (ours,) = torch.autograd.grad(logits.square().sum(), noise)
    monkeypatch.setenv("BANSCAN_KERNELS", "reference")
    assert model.stats is not None
    exact = attach(traced, model.neurons, tuple(s.double() for s in model.stats), torch.float64)
    doubled = noise.detach().double().requires_grad_()
    logits, _ = exact.behind(views(doubled, exact.neurons, exact.stats, len(images)), *exact.prepare(images))
    (truth,) = torch.autograd.grad(logits.square().sum(), doubled)
    assert float((ours - truth).norm() / truth.norm()) < 1e-3


@pytest.mark.parametrize("ball", ["linf", "l2"])
def test_search_stays_in_the_ball_and_raises_the_loss(traced: TracedModel, images: torch.Tensor, ball: str) -> None:
    model = build(traced, images, "normalised", 0.0)
    prepared, labels = model.prepare(images), traced.logits(images).argmax(1)
    noise = neuron_noise.start(model, 4, 0.3, 0, ball)
    found = neuron_noise.search(model, prepared, labels, noise, eps=0.3, steps=6, batch=12, seed=0, ball=ball)
    bound = found.abs().max() if ball == "linf" else found.square().mean(1).sqrt().max()
    assert float(bound) <= 0.3 * (1 + 1e-5)

    def loss(n: torch.Tensor) -> torch.Tensor:
        logits, _ = neuron_noise.logits_under(model, prepared, n)
        return torch.stack([torch.nn.functional.cross_entropy(y, labels) for y in logits])

    assert bool((loss(found) > loss(noise)).all())
    again = neuron_noise.search(model, prepared, labels, noise, eps=0.3, steps=6, batch=12, seed=0, ball=ball)
    assert torch.equal(found, again)


def test_targeted_search_goes_to_its_targets(model_file: Path, patterns) -> None:  # type: ignore[no-untyped-def]
    model = importers.load(model_file)
    x = torch.from_numpy(patterns[0]).permute(0, 3, 1, 2).float() / 255
    noisy = build(model, x, "normalised", 0.0)
    targets = torch.arange(10)
    found = neuron_noise.search(
        noisy,
        noisy.prepare(x),
        torch.from_numpy(patterns[1]),
        neuron_noise.start(noisy, 10, 1.0, 0, "l2"),
        eps=1.0,
        steps=12,
        batch=64,
        seed=0,
        ball="l2",
        target=targets,
    )
    logits, _ = neuron_noise.logits_under(noisy, noisy.prepare(x), found)
    hits = (logits.argmax(2) == targets[:, None]).float().mean(1)
    assert float(hits.mean()) > 0.5


def test_chunks_give_the_same_result(traced: TracedModel, images: torch.Tensor) -> None:
    model = build(traced, images, "normalised", 0.5)
    prepared, labels = model.prepare(images), traced.logits(images).argmax(1)
    results = []
    for size in (12, 30, 1000):
        model = replace(model, at_once=size)
        noise = neuron_noise.start(model, 5, 0.1, 0, "l2")
        results.append(neuron_noise.search(model, prepared, labels, noise, eps=0.1, steps=2, batch=12, seed=0, ball="l2"))
    for other in results[1:]:
        assert float((results[0] - other).norm() / results[0].norm()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("form", "ball"), [("normalised", "l2"), ("paper", "linf")])
def test_backends_agree(model_file: Path, patterns, form: str, ball: str, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """The same noise from every backend, Triton's in its interpreter where there is no GPU."""
    model = importers.load(model_file)
    x = torch.from_numpy(patterns[0][:12]).permute(0, 3, 1, 2).float() / 255
    noisy = build(model, x, form, 0.0)
    results = {}
    pytest.importorskip("triton")
    for name in ("reference", "cpu", "triton"):
        monkeypatch.setenv("BANSCAN_KERNELS", name)
        noise = neuron_noise.start(noisy, 3, 0.1, 0, ball)
        labels = torch.from_numpy(patterns[1][:12])
        found = neuron_noise.search(noisy, noisy.prepare(x), labels, noise, eps=0.1, steps=3, batch=12, seed=0, ball=ball)
        results[name] = neuron_noise.logits_under(noisy, noisy.prepare(x), found)[0]
    for name in ("cpu", "triton"):
        assert float((results[name] - results["reference"]).norm() / results["reference"].norm()) < 1e-2


def test_sums_are_computed_with_their_layer(model_file: Path, images: torch.Tensor) -> None:
    """The residual sum and the ReLU behind it leave the graph: nothing but the noisy layers, the pooling and the head is left."""
    noisy = build(importers.load(model_file), images, "normalised", 0.0)
    called = [n.target for n in noisy.behind.graph.nodes if n.op == "call_function"]
    assert not {torch.ops.aten.add.Tensor, torch.ops.aten.relu.default} & set(called)
    # the first convolution reads the image alone: it is in front, and only its noise is computed again
    assert sum(n.target is torch.ops.aten.conv2d.default for n in noisy.before.graph.nodes) == 1
