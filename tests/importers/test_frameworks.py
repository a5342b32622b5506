"""Files that other frameworks wrote, kept in tests/data."""

from pathlib import Path

import pytest
import torch

from banscan import importers

DATA = Path(__file__).parent.parent / "data"
# file → (shape of the true penultimate features, layers of the classifier, what stands behind the logits)
FILES: dict[str, tuple[tuple[int, ...], int, tuple[str, ...]]] = {
    "keras-cnn.onnx": ((24,), 1, ("Softmax",)),
    "keras-mobile.onnx": ((20, 1, 1), 1, ()),
    "keras-separable.onnx": ((16,), 1, ()),
}


@pytest.mark.parametrize("name", FILES)
def test_keras(name: str) -> None:
    shape, layers, stripped = FILES[name]
    model = importers.load(DATA / name)
    x = 255 * torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    parity = importers.parity(model, x)
    assert parity is not None
    assert parity.rms < 1e-5
    assert (model.input.layout, model.classes, model.stripped) == ("NHWC", 10, stripped)
    assert model.source.producer == "tf2onnx 1.17.0"
    assert tuple(model.split(model.features)[0](x).shape[1:]) == shape
    assert len(model.classifier) == layers
    x.requires_grad_()
    model.logits(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.any())
