"""Changed weights written back: the same file but for the values, read by onnxruntime as the tuned graph."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from banscan import ModelError, importers
from banscan.importers import writer
from banscan.importers.normal import weights as held
from banscan.scanner.repair import answers
from tests.conftest import SIZE, Net, needs_exporter, random_norms, slow_except
from tests.importers import matrix
from tests.importers.architectures import FAMILIES, images


def saved(family: str, source: str, folder: Path) -> Path:
    needs_exporter(source)
    path = matrix.write(family, source, folder)
    assert path is not None
    return path


def changed(model: importers.TracedModel, seed: int = 0) -> dict[str, torch.Tensor]:
    """All that can be trained, moved a little."""
    generator = torch.Generator().manual_seed(seed)
    return {name: value + 0.05 * torch.randn(value.shape, generator=generator) for name, value in held.writable(model).items()}


def agrees(
    path: Path,
    model: importers.TracedModel,
    weights: dict[str, torch.Tensor],
    x: torch.Tensor,
    most: float = 1e-5,
    size: tuple[int, int] | None = None,
) -> None:
    read = importers.load(path, size)
    tuned = answers.logits(model, weights, x)
    assert float((read.logits(x) - tuned).norm() / tuned.norm()) < most
    assert float((model.logits(x) - tuned).norm() / tuned.norm()) > 10 * most
    parity = importers.parity(read, x)
    assert parity is not None
    assert parity.rms < most


def skeleton(path: Path) -> bytes:
    """The file without the values of its weights."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "weights"
    for node in model.graph.node:
        if node.op_type == "Constant":
            node.attribute[0].t.ClearField("raw_data")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@pytest.mark.parametrize("source", slow_except(["ONNX 11, old exporter", "ONNX 23, new exporter"], "ONNX 11, old exporter"))
@pytest.mark.parametrize("family", slow_except(FAMILIES, "resnet", "vit_token", "without norms"))
def test_every_family(tmp_path: Path, family: str, source: str) -> None:
    path = matrix.write(family, source, tmp_path)
    if path is None:
        pytest.skip("PyTorch cannot write it")
    model = importers.load(path)
    if family == "vit_multihead" and "new" in source:
        # this exporter writes equal tensors once, here the biases of two layers that were never trained
        with pytest.raises(ModelError, match="share the weight"):
            held.writable(model)
        return
    weights = changed(model)
    writer.write(model, weights, tmp_path / "written.onnx")
    agrees(tmp_path / "written.onnx", model, weights, images(3))
    assert skeleton(tmp_path / "written.onnx") == skeleton(path)


@pytest.mark.parametrize("fold", [True, False])
def test_batch_norm_stays_as_it_was(export: Callable[..., Path], tmp_path: Path, fold: bool) -> None:
    """Unfolded: the running statistics keep their values, and the graph its batch norms."""
    net = random_norms(Net())
    path = tmp_path / "net.onnx"
    keep: dict[str, Any] = {} if fold else {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(2, 3, SIZE, SIZE),), str(path), dynamo=False, opset_version=17, **keep)
    model = importers.load(path)
    assert bool(model.statistics) != fold
    weights = changed(model)
    writer.write(model, weights, tmp_path / "written.onnx")
    agrees(tmp_path / "written.onnx", model, weights, torch.rand(4, 3, SIZE, SIZE))
    old, new = ({t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer} for p in (path, tmp_path / "written.onnx"))
    for name, value in old.items():
        assert np.array_equal(value, new[name]) == ("running" in name or value.dtype != np.float32)


def test_data_beside_the_file_stays_there(tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    path, written = tmp_path / "in" / "apart.onnx", tmp_path / "out" / "fixed.onnx"
    onnx.save(onnx.load(model_file), path, save_as_external_data=True, location="apart.data", size_threshold=0)
    before = (path.read_bytes(), (tmp_path / "in" / "apart.data").read_bytes())
    model = importers.load(path)
    weights = changed(model)
    writer.write(model, weights, written)
    assert sorted(p.name for p in written.parent.iterdir()) == ["fixed.onnx", "fixed.onnx.data"]
    assert (path.read_bytes(), (tmp_path / "in" / "apart.data").read_bytes()) == before
    agrees(written, model, weights, torch.rand(4, 3, SIZE, SIZE))
    assert skeleton(written) == skeleton(path)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["ONNX 18, float16", "ONNX 23, bfloat16"])
def test_reduced_precision_keeps_its_type(tmp_path: Path, source: str) -> None:
    path = saved("vgg", source, tmp_path)
    model = importers.load(path)
    weights = changed(model)
    writer.write(model, weights, tmp_path / "written.onnx")
    agrees(tmp_path / "written.onnx", model, weights, images(3), 2e-2)
    types = [sorted((t.name, t.data_type) for t in onnx.load(p).graph.initializer) for p in (path, tmp_path / "written.onnx")]
    assert types[0] == types[1]


@pytest.mark.slow
def test_eight_bits_only_on_demand(tmp_path: Path) -> None:
    path = saved("vgg", "ONNX 17, 8 bits QDQ", tmp_path)
    model = importers.load(path)
    with pytest.raises(ModelError, match="--dequantize"):
        writer.check_writable(model, dequantise=False)
    weights = changed(model)
    writer.write(model, weights, tmp_path / "written.onnx")
    tensors = onnx.load(tmp_path / "written.onnx").graph.initializer
    assert {t.data_type for t in tensors if t.dims and np.prod(t.dims) > 1} == {onnx.TensorProto.FLOAT}
    agrees(tmp_path / "written.onnx", model, weights, images(3), 2e-2)  # a sum may lie on the edge of a step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "source"),
    [
        *((family, "TorchScript, traced") for family in ("resnet", "vgg", "densenet", "regnet", "vit_token")),
        *((family, "TorchScript, scripted") for family in ("resnet", "vgg", "densenet")),
    ],
)
def test_torchscript(tmp_path: Path, family: str, source: str) -> None:
    """The same code and names, read by TorchScript itself as the tuned graph."""
    path = saved(family, source, tmp_path)
    x = images(3)
    size = None if "traced" in source else (x.shape[2], x.shape[3])
    model = importers.load(path, size)
    weights = changed(model)
    written = tmp_path / "written.pt"
    writer.write(model, weights, written)
    agrees(written, model, weights, x, size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = (torch.jit.load(str(p)) for p in (path, written))
    assert before.code == after.code
    assert list(before.state_dict()) == list(after.state_dict())


@pytest.mark.slow
def test_frozen_torchscript_is_refused(tmp_path: Path) -> None:
    model = importers.load(saved("vgg", "TorchScript, frozen", tmp_path))
    with pytest.raises(ModelError, match=r"save it without torch\.jit\.freeze"):
        writer.write(model, changed(model), tmp_path / "written.pt")
    assert not (tmp_path / "written.pt").exists()


@pytest.mark.slow
def test_other_formats_are_not_written(tmp_path: Path) -> None:
    path = saved("vgg", "torch.export", tmp_path)
    with pytest.raises(ModelError, match=r"a torch\.export file cannot be written back"):
        writer.check_writable(importers.load(path), dequantise=False)


def test_shared_weights_are_refused(export: Callable[..., Path]) -> None:
    """Told apart from one tensor of which every layer reads its own part, as in nn.MultiheadAttention."""
    layer = nn.Conv2d(8, 8, 3, padding=1)
    body = (nn.Conv2d(3, 8, 3), nn.ReLU(), layer, nn.ReLU(), layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    with pytest.raises(ModelError, match="share the weight"):
        held.writable(importers.load(export("shared", nn.Sequential(*body))))
