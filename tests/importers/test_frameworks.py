"""Files that other frameworks wrote: those kept in tests/data, and those that `make test-frameworks` has just written."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from banscan import importers

KEPT = Path(__file__).parent.parent / "data"
WRITTEN = Path(os.environ["BANSCAN_FRAMEWORKS"]) if "BANSCAN_FRAMEWORKS" in os.environ else None


@dataclass(frozen=True)
class Truth:
    """The shape of the penultimate features, how many layers the classifier has, what stands behind the logits, the classes."""

    features: tuple[int, ...]
    classifier: int = 1
    stripped: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None


DIGITS = tuple("0123456789")
FILES = {
    "keras-cnn.onnx": Truth((24,), stripped=("Softmax",)),
    "keras-mobile.onnx": Truth((20, 1, 1)),
    "keras-separable.onnx": Truth((16,)),
    "paddle-cnn.onnx": Truth((12,)),
    "paddle-residual.onnx": Truth((20,), stripped=("Softmax",)),
    "sklearn-binary.onnx": Truth((12,), stripped=("Concat", "Sigmoid", "one logit for two classes"), names=("0", "1")),
    "sklearn-map.onnx": Truth((24,), stripped=("Softmax",), names=DIGITS),
    "sklearn-text.onnx": Truth((16,), stripped=("Softmax",), names=tuple(f"digit {d}" for d in DIGITS)),
}
LARGE = {
    "keras-MobileNetV2.onnx": Truth((1280,)),
    "keras-MobileNetV3Small.onnx": Truth((1024, 1, 1)),
    "keras-EfficientNetB0.onnx": Truth((1280,)),
}


@pytest.mark.parametrize("name", FILES)
def test_kept(name: str) -> None:
    check(KEPT / name, FILES[name])


@pytest.mark.skipif(WRITTEN is None, reason="make test-frameworks writes them")
@pytest.mark.parametrize("name", FILES | LARGE)
def test_written(name: str) -> None:
    assert WRITTEN is not None
    check(WRITTEN / name, (FILES | LARGE)[name])


def check(path: Path, truth: Truth) -> None:
    model = importers.load(path)
    spec = model.input
    layout = "NCHW" if path.name.startswith("paddle") else "NHWC"
    # Keras' networks take pixels, the digits have 16 grey levels
    x = (16 if spec.flat else 255) * torch.rand(5, *spec.example().shape[1:], generator=torch.Generator().manual_seed(0))
    parity = importers.parity(model, x)
    assert parity is not None
    assert parity.rms < 1e-5
    assert (spec.layout, model.classes) == (layout, 10 if truth.names is None else len(truth.names))
    assert (model.stripped, model.class_names) == (truth.stripped, truth.names)
    assert tuple(model.split(model.features)[0](x).shape[1:]) == truth.features
    assert len(model.classifier) == truth.classifier
    x.requires_grad_()
    model.logits(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert bool(x.grad.any())
