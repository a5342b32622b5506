"""What onnxruntime makes of a file is read as it runs it."""

from pathlib import Path

import onnx
import pytest
import torch

from banscan import importers
from banscan.errors import ModelError, UsageError
from banscan.importers.deploy import deploy
from banscan.scanner.inputs.checks import PARITY
from tests.importers.equivalent.network import graph

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    onnx.save(graph(), tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


@pytest.mark.parametrize(("kind", "precision"), [("int8", "8 bits"), ("int8-dynamic", "8 bits"), ("fp16", "float16")])
def test_deployed(plain: Path, tmp_path: Path, kind: str, precision: str) -> None:
    model = importers.load(plain)
    x = torch.rand(20, *model.input.example().shape[1:], generator=torch.Generator().manual_seed(0))
    file = tmp_path / "deployed.onnx"
    file.write_bytes(deploy(model, kind, x))
    made = importers.load(file)
    assert made.source.precision == precision
    assert len(made.neurons) == len(model.neurons)
    compared = importers.parity(made, x)
    assert compared is not None
    assert compared.rms < PARITY[precision]
    apart = made.logits(x) - model.logits(x)
    assert 0 < float(apart.abs().max()) < 0.1 * float(model.logits(x).abs().max())


def test_what_cannot_be_deployed(plain: Path, tmp_path: Path) -> None:
    model = importers.load(plain)
    x = torch.rand(4, *model.input.example().shape[1:])
    with pytest.raises(ModelError, match="no way of deploying"):
        deploy(model, "int3", x)
    (tmp_path / "half.onnx").write_bytes(deploy(model, "fp16", x))
    with pytest.raises(ModelError, match="float16 already"):
        deploy(importers.load(tmp_path / "half.onnx"), "int8", x)
    torch.jit.trace(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)), torch.rand(2, 3, 8, 8)).save(str(tmp_path / "a.pt"))
    with pytest.raises(UsageError, match="export the model as ONNX"):
        deploy(importers.load(tmp_path / "a.pt"), "int8", torch.rand(4, 3, 8, 8))
