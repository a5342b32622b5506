"""Where a scan runs. The meta device stands for a GPU: it takes no tensor from another device, and nothing can wait for its values."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from banscan import UsageError, importers
from banscan.importers import TracedModel
from banscan.scanner.inputs.preprocess import CANDIDATES
from banscan.scanner.machine.device import find, repeatable
from banscan.scanner.repair import trainable, tuning
from banscan.scanner.repair.repair import repair
from banscan.scanner.repair.settings import ANP, METHODS, RepairSettings, Tuning
from banscan.scanner.search import mask, neuron_noise
from banscan.scanner.search.changes import of_pixels
from banscan.scanner.search.margin import largest_margins
from banscan.scanner.search.noisy_model import attach, layers, measure
from banscan.scanner.search.pixel_model import pixel_model
from banscan.scanner.search.universal import universal
from banscan.scanner.settings import Options, Settings
from tests.conftest import CLASSES, random_norms, slow_except
from tests.importers.onnx.test_reader import ARCHITECTURES

ELSEWHERE = torch.device("meta")
LABELS = torch.arange(12) % CLASSES
TARGETS = torch.arange(CLASSES)


@pytest.fixture(params=slow_except(ARCHITECTURES, "residual", "tokens", "branches"))
def moved(request: pytest.FixtureRequest, export) -> tuple[TracedModel, torch.Tensor]:  # type: ignore[no-untyped-def]
    model = importers.load(export(f"moved-{request.param}", random_norms(ARCHITECTURES[request.param][0]())))
    model.to(ELSEWHERE)
    return model, torch.rand(12, 3, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ball", ["l2", "linf"])
def test_the_search_stays_there(moved: tuple[TracedModel, torch.Tensor], ball: str, dtype: torch.dtype) -> None:
    model, x = moved
    assert model.device == ELSEWHERE
    neurons = layers(model, 0.5)
    stats = tuple(torch.zeros(2, n.channels, device=ELSEWHERE) for n in neurons) if ball == "l2" else None
    noisy = attach(model, neurons, stats, dtype)
    prepared = noisy.prepare(x)
    noise = neuron_noise.start(noisy, CLASSES, 0.1, 0, ball)
    for target in (None, TARGETS):
        found = neuron_noise.search(noisy, prepared, LABELS, noise, eps=0.1, steps=2, batch=8, seed=0, ball=ball, target=target)
        assert found.device == ELSEWHERE
        assert found.shape == noise.shape


def test_what_is_measured_is_read_at_the_end(moved: tuple[TracedModel, torch.Tensor]) -> None:
    model, x = moved
    assert all(own.device == ELSEWHERE for own in measure(model, layers(model, 0.5), x))
    plain = pixel_model(model, CANDIDATES[0], torch.float32)
    pixels = plain.pixels(x.to(ELSEWHERE))
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        largest_margins(plain, pixels, TARGETS, starts=2, steps=2, seed=0)


def test_pixel_searches_and_mask_stay_there(moved: tuple[TracedModel, torch.Tensor]) -> None:
    model, x = moved
    plain = pixel_model(model, CANDIDATES[0], torch.float32)
    goals = TARGETS[:, None].repeat(1, CLASSES)
    pixels = plain.pixels(x.to(ELSEWHERE))
    changes = of_pixels(plain, pixels, 0.1)
    found = universal(changes, LABELS, goals, among=torch.arange(len(LABELS)), softness=1.0, steps=2, batch=4, seed=0)
    assert found.device == ELSEWHERE
    trunk, head = model.split(model.features)
    with torch.no_grad():
        features = trunk(x.to(ELSEWHERE))
    assert mask.learn(head, features, LABELS.to(ELSEWHERE), epochs=1).device == ELSEWHERE


@pytest.mark.parametrize("how", [Tuning(batch=6), METHODS[ANP]])
def test_repair_stays_there(moved: tuple[TracedModel, torch.Tensor], how: Tuning) -> None:
    """Images, labels and aims stay on the CPU; the losses are read once, when an epoch is over."""
    model, x = moved
    limits = torch.zeros(1, 3, 1, 1, device=ELSEWHERE), torch.ones(1, 3, 1, 1, device=ELSEWHERE)
    state = trainable.start(model, x, masked=how is METHODS[ANP])
    done: list[int] = []
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        tuning.epoch(
            model,
            state,
            x,
            LABELS,
            how,
            limits=limits,
            aims=None if how is METHODS[ANP] else 0 * LABELS,
            pasted=None if how is METHODS[ANP] else torch.zeros(2, *x.shape[1:], device=ELSEWHERE),
            progress=done.append,
        )
    assert sum(done) == len(x)
    assert (state.pixels is None) == (how is METHODS[ANP])
    kept = [*state.values.values(), *state.momenta.values(), *([] if state.pixels is None else [state.pixels])]
    assert all(value.device == ELSEWHERE for value in kept)


def test_find() -> None:
    assert find("cpu") == torch.device("cpu")
    assert find("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "mps", "cuda:x", "cpu:0", ""):
        with pytest.raises(UsageError, match="expected auto, cpu, cuda or cuda:N"):
            find(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu_is_told(model_file: Path, image_dir: Path) -> None:
    from banscan import scan

    with pytest.raises(UsageError, match="sees no GPU here; use --device cpu"):
        scan(model_file, image_dir, options=Options(device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize(("form", "ball"), [("normalised", "l2"), ("paper", "linf")])
def test_a_gpu_searches_as_a_cpu_does(model_file: Path, form: str, ball: str) -> None:
    """Recorded steps, in groups that do not divide the restarts, with targets and without; twice the same bits."""
    x = torch.rand(12, 3, 16, 16)
    results = []
    for device in ("cpu", "cuda", "cuda"):
        model = importers.load(model_file)
        model.to(torch.device(device))
        neurons = layers(model, 0.0)
        with repeatable(torch.device(device)):
            noisy = attach(model, neurons, measure(model, neurons, x) if form == "normalised" else None)
            noisy = replace(noisy, at_once=36)
            found = []
            for target in (None, TARGETS[:5]):
                noise = neuron_noise.start(noisy, 5, 0.1, 0, ball)
                own = neuron_noise.search(
                    noisy, noisy.prepare(x), LABELS, noise, eps=0.1, steps=3, batch=12, seed=0, ball=ball, target=target
                )
                found.append(neuron_noise.logits_under(noisy, noisy.prepare(x), own)[0])
        results.append(torch.stack(found))
    assert float((results[0] - results[1]).norm() / results[0].norm()) < 1e-2
    assert torch.equal(results[1], results[2])


@pytest.mark.gpu
def test_a_repair_on_a_gpu(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    """The file is that of the CPU up to rounding, and twice the same."""
    how, settings = RepairSettings(epochs=2, force=True), Settings(restarts=1, steps=2, pixels=False)
    for number, device in enumerate(("cpu", "cuda", "cuda")):
        where = Options(device=device)
        repair(model_file, image_dir, tmp_path / f"{number}.onnx", tuning=how, settings=settings, options=where)
    here, there, again = (importers.load(tmp_path / f"{number}.onnx") for number in range(3))
    x = torch.rand(12, 3, 16, 16)
    assert float((here.logits(x) - there.logits(x)).norm() / here.logits(x).norm()) < 5e-2
    assert there.source.sha256 == again.source.sha256


@pytest.mark.gpu
def test_a_scan_on_a_gpu(model_file: Path, image_dir: Path) -> None:
    from banscan import scan

    settings = Settings(restarts=2, steps=2)
    here, there = (
        scan(model_file, image_dir, settings=settings, options=Options(device=name, precision="float32")) for name in ("cpu", "cuda")
    )
    assert there.environment["kernels"] == "triton"
    assert there.verdict.outcome == here.verdict.outcome
    for a, b in zip(here.findings, there.findings, strict=True):
        assert a.classes == b.classes
        assert a.value == pytest.approx(b.value, rel=0.1)
