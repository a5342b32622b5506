"""Where a scan runs. The meta device stands for a GPU: it takes no tensor from another device, and nothing can wait for its values."""

from pathlib import Path

import pytest
import torch

from banscan import UsageError, importers
from banscan.importers import TracedModel
from banscan.scanner import mask, search
from banscan.scanner.device import find
from banscan.scanner.margin import largest_margins
from banscan.scanner.noise import attach, layers, measure
from banscan.scanner.pixels import pixel_model
from banscan.scanner.preprocess import CANDIDATES
from banscan.scanner.universal import universal
from tests.conftest import CLASSES, random_norms
from tests.importers.test_onnx import ARCHITECTURES

ELSEWHERE = torch.device("meta")
LABELS = torch.arange(12) % CLASSES
TARGETS = torch.arange(CLASSES)


@pytest.fixture(params=list(ARCHITECTURES))
def moved(request: pytest.FixtureRequest, export) -> tuple[TracedModel, torch.Tensor]:  # type: ignore[no-untyped-def]
    model = importers.load(export(f"moved-{request.param}", random_norms(ARCHITECTURES[request.param][0]())))
    importers.place(model, ELSEWHERE)
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
    noise = search.start(noisy, CLASSES, 0.1, 0, ball)
    for target in (None, TARGETS):
        found = search.search(noisy, prepared, LABELS, noise, eps=0.1, steps=2, batch=8, seed=0, ball=ball, target=target)
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
    found = universal(plain, pixels, LABELS, goals, radius=0.1, softness=1.0, steps=2, batch=4, seed=0)
    assert found.device == ELSEWHERE
    trunk, head = model.split(model.features)
    with torch.no_grad():
        features = trunk(x.to(ELSEWHERE))
    assert mask.learn(head, features, LABELS.to(ELSEWHERE), epochs=1).device == ELSEWHERE


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
        scan(model_file, image_dir, device="cuda")
