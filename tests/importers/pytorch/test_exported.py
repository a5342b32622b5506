"""torch.export archives: read without PyTorch's loader, refused where they hold more than a graph and numbers."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from banscan import importers
from banscan.errors import ModelError
from tests.conftest import CLASSES, SIZE, Net, random_norms
from tests.scanner.cli.test_main import FAST, banscan, failed


@pytest.fixture
def program_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(random_norms(Net()), tmp_path / "model.pt2", ({0: torch.export.Dim("batch")},))


def save(module: torch.nn.Module, path: Path, shapes: Any) -> Path:
    torch.export.save(torch.export.export(module, (torch.rand(2, 3, SIZE, SIZE),), dynamic_shapes=shapes), path)
    return path


def rewritten(path: Path, part: str, change: Any) -> Path:
    """A copy of an archive whose JSON file named `part` was changed."""
    out = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if part in info.filename and info.filename.endswith(".json"):
                document = json.loads(data)
                change(document)
                data = json.dumps(document).encode()
            new.writestr(info.filename, data)
    return out


def test_same_as_the_network(program_file: Path) -> None:
    torch.manual_seed(0)
    module, x = random_norms(Net()), torch.rand(7, 3, SIZE, SIZE)
    model = importers.load(program_file)
    with torch.no_grad():
        assert torch.allclose(model.logits(x), module(x), atol=1e-5)
    assert (model.source.format, model.input.height, model.classes) == ("torch.export", SIZE, CLASSES)
    assert importers.parity(model, x) is None


@pytest.mark.slow
def test_scan(trained: torch.nn.Module, image_dir: Path, tmp_path: Path) -> None:
    path = save(trained, tmp_path / "trained.pt2", ({0: torch.export.Dim("batch")},))
    done = banscan(path, "--clean-dir", image_dir, *FAST, "--no-pixels")
    assert done.returncode in (0, 1, 2), done.stderr
    assert done.stderr == ""
    assert "torch.export by PyTorch" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_free_size(tmp_path: Path) -> None:
    dim = torch.export.Dim
    path = save(Net().eval(), tmp_path / "free.pt2", ({0: dim("batch"), 2: dim("height", min=8), 3: dim("width", min=8)},))
    assert importers.load(path).input.height is None
    assert importers.load(path, (20, 24)).logits(torch.rand(3, 3, 20, 24)).shape == (3, CLASSES)


def test_operators_that_touch_files_are_refused(program_file: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    with pytest.raises(ModelError, match="from_file"):
        importers.load(rewritten(program_file, "/models/", change))


@pytest.mark.parametrize("target", ["os.system", "torch.ops.evil.run.default", "torch.ops.aten.relu.missing", "builtins.eval"])
def test_unknown_operators_are_refused(program_file: Path, target: str) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][-1]["target"] = target

    with pytest.raises(ModelError, match=r"operator .* is not"):
        importers.load(rewritten(program_file, "/models/", change))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("use_pickle", True, "stored as a pickle"), ("path_name", "../../etc/passwd", "object of its own"), ("tensor_meta", None, "damaged")],
)
def test_weights_that_are_no_plain_bytes_are_refused(program_file: Path, key: str, value: Any, message: str) -> None:
    def change(document: dict[str, Any]) -> None:
        next(iter(document["config"].values()))[key] = value

    with pytest.raises(ModelError, match=message):
        importers.load(rewritten(program_file, "weights_config", change))


def test_shape_larger_than_the_bytes(program_file: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        next(iter(document["config"].values()))["tensor_meta"]["sizes"][0] = {"as_int": 1 << 40}

    with pytest.raises(ModelError, match="fewer values than its shape"):
        importers.load(rewritten(program_file, "weights_config", change))


@pytest.mark.slow
def test_truncated(program_file: Path) -> None:
    whole = program_file.read_bytes()
    program_file.write_bytes(whole[: len(whole) * 2 // 3])
    failed(banscan("inspect", program_file), 3, "model.pt2")
