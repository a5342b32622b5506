"""TorchScript import: scripted code with branches and loops, sizes, and archives that are refused."""

import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from banscan import importers
from banscan.errors import ModelError
from banscan.scanner.inputs import preprocess
from tests.conftest import CLASSES, SIZE, Net, random_norms
from tests.scanner.cli.test_main import FAST, banscan, failed

# files in this format are around whatever becomes of the tool that writes them
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Branches(nn.Module):
    """Code that only a script keeps: a branch on the size, a loop, a list, an assertion, writing in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4:
            raise ValueError("images")
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x += torch.relu_(block(x))
        pooled = []
        for k in range(2):
            pooled.append(x.mean((2, 3)) if k == 0 else x.amax((2, 3)))
        x = torch.cat(pooled, 1)
        return self.head(x) if x.shape[1] > 3 else x


@pytest.fixture
def script_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.pt"
    torch.jit.trace(random_norms(Net()), torch.rand(2, 3, SIZE, SIZE)).save(str(path))
    return path


@pytest.mark.slow
def test_scripted_code(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = Branches().eval(), tmp_path / "branches.ts"
    torch.jit.script(module).save(str(path))
    assert importers.load(path).input.height is None
    model = importers.load(path, size=(20, 20))
    x = torch.rand(5, 3, 20, 20)
    with torch.no_grad():
        assert torch.allclose(model.logits(x), module(x), atol=1e-5)
    assert importers.parity(model, x).rms < 1e-6
    assert [n.kind for n in model.neurons] == ["conv"] * 4 + ["linear"]
    assert (model.source.format, model.source.opset, model.input.height) == ("TorchScript", None, 20)


@pytest.mark.slow
def test_traced_size_and_any_batch(script_file: Path) -> None:
    model = importers.load(script_file)
    assert (model.input.height, model.input.width) == (SIZE, SIZE)
    assert model.logits(torch.rand(7, 3, SIZE, SIZE)).shape == (7, CLASSES)


@pytest.mark.slow
def test_size_bound_script(tmp_path: Path) -> None:
    """A scripted network with a fixed size says so by taking no other."""
    module, path = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 5)).eval(), tmp_path / "grey.pt"
    torch.jit.script(module).save(str(path))
    spec = importers.load(path).input
    assert (spec.channels, spec.height, spec.width) == (1, 28, 28)


class Viewed(nn.Module):
    """A view that takes every size whose values fill its rows, and makes several rows of one image of most."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.row = 4 * (side // 16) ** 2
        self.conv, self.head = nn.Conv2d(1, 4, 5, 1, 2), nn.Linear(self.row, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.max_pool2d(torch.relu(self.conv(x)), 16)
        return self.head(x.view(-1, self.row))


def viewed(side: int, path: Path) -> nn.Module:
    module = Viewed(side).eval()
    torch.jit.script(module).save(str(path))
    return module


def test_the_size_at_which_an_image_is_one_row(tmp_path: Path) -> None:
    path, x = tmp_path / "viewed.pt", torch.rand(3, 1, 64, 64)
    module = viewed(64, path)
    assert module(torch.rand(2, 1, 128, 128)).shape == (8, 5)
    model = importers.load(path)
    assert (model.input.channels, model.input.height, model.input.width) == (1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), module(x))
    assert importers.parity(model, x).rms < 1e-6


def test_sides_that_are_taken_as_well_are_known(tmp_path: Path) -> None:
    """Of 66 pixels pooling leaves two out, and it takes the 64 that are tried as well."""
    path = tmp_path / "viewed.pt"
    viewed(66, path)
    spec = importers.load(path).input
    assert (spec.height, spec.sides) == (64, (64, 79))
    said = importers.load(path, (66, 66)).input
    assert (said.height, said.sides) == (66, None)


class Grey(nn.Module):
    """A network of grey images that flattens by `view`, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8 * 14 * 14, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.conv(x))
        return self.head(torch.relu(self.hidden(maps.view(maps.shape[0], 8 * 14 * 14))))


def test_grey_images_reach_the_runtime_in_order(tmp_path: Path) -> None:
    """With one channel an image with channels last looks contiguous with channels first, and a convolution keeps to what it is."""
    torch.manual_seed(0)
    path = tmp_path / "grey.pt"
    torch.jit.script(Grey().eval()).save(str(path))
    model = importers.load(path, (16, 16))
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1)).astype(np.uint8)
    compared = importers.parity(model, preprocess.CANDIDATES[0](images, "NCHW"))
    assert compared is not None
    assert compared.rms < 1e-6


@pytest.mark.slow
def test_a_size_that_has_to_be_said(tmp_path: Path) -> None:
    """One that is not usual, and two that are, of which the network pools what is over away."""
    path = tmp_path / "viewed.pt"
    for side, said in (
        (80, r"no images of a usual size .*; say its own with --size"),
        (112, "images of 112 and of 120 pixels, but not of every"),
    ):
        module, x = viewed(side, path), torch.rand(3, 1, side, side)
        with pytest.raises(ModelError, match=said):
            importers.load(path)
        with torch.no_grad():
            torch.testing.assert_close(importers.load(path, size=(side, side)).logits(x), module(x))
    shown = banscan("inspect", path, "--size", "112")
    assert "input NCHW 112×112×1, 5 classes" in " ".join(shown.stdout.split()), shown.stderr


@pytest.mark.slow
def test_same_network_same_verdict_as_onnx(trained: nn.Module, model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "trained.pt"
    torch.jit.trace(trained, torch.rand(2, 3, SIZE, SIZE)).save(str(path))
    results = [banscan(p, "--clean-dir", image_dir, *FAST, "--no-pixels", "--format", "json") for p in (path, model_file)]
    assert results[0].returncode == results[1].returncode, results[0].stderr
    inspected = banscan("inspect", path)
    assert "TorchScript by PyTorch" in " ".join(inspected.stdout.split())


@pytest.mark.slow
def test_plain_pickles_are_refused(tmp_path: Path) -> None:
    net = Net()
    for name, saved, new in (("weights.pt", net.state_dict(), True), ("old.pth", net.state_dict(), False), ("module.pt", net, True)):
        torch.save(saved, tmp_path / name, _use_new_zipfile_serialization=new)
        failed(banscan("inspect", tmp_path / name), 3, "without the graph; save the")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Touch(tmp_path / "touched")))
    failed(banscan("inspect", tmp_path / "evil.pt"), 3, "without the graph")
    assert not (tmp_path / "touched").exists()


class Touch:
    """A pickle that runs code when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        import os

        return os.system, (f"touch {self.path}",)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None) -> Path:
    """A copy of an archive with changed members."""
    out = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
        for name, data in (extra or {}).items():
            new.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 4])
def test_foreign_pickles_are_refused(script_file: Path, tmp_path: Path, protocol: int) -> None:
    evil = pickle.dumps(Touch(tmp_path / "touched"), protocol=protocol)
    path = rewritten(script_file, lambda name, data: evil if name.endswith("/data.pkl") else data)
    failed(banscan("inspect", path), 3, r"(system|FRAME), which no classifier needs; refused")
    assert not (tmp_path / "touched").exists()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.7, 0.999])
def test_truncated(script_file: Path, share: float) -> None:
    whole = script_file.read_bytes()
    script_file.write_bytes(whole[: int(len(whole) * share)])
    failed(banscan("inspect", script_file), 3, "model.pt")


@pytest.mark.slow
def test_two_inputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    path = tmp_path / "two.pt"
    torch.jit.script(Two()).save(str(path))
    failed(banscan("inspect", path), 3, "2 inputs; expected an image classifier with one image input")


def test_onnx_under_any_name(model_file: Path, tmp_path: Path) -> None:
    shutil.copy(model_file, tmp_path / "model.pt")
    assert importers.load(tmp_path / "model.pt").source.format == "ONNX"


class Several(nn.Module):
    """Two answers of different sizes, of which neither follows from the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, CLASSES), nn.Linear(3, CLASSES + 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = x.mean((2, 3))
        return {"coarse": self.first(y), "fine": self.second(y)}


@pytest.mark.slow
def test_an_output_by_its_name(tmp_path: Path) -> None:
    path, module = tmp_path / "several.pt", Several().eval()
    torch.jit.script(module).save(str(path))
    with pytest.raises(ModelError, match=r"several tensors \(coarse, fine\); say with --logits"):
        importers.load(path, size=(SIZE, SIZE))
    with pytest.raises(ModelError, match="no output 'other'; it has coarse, fine"):
        importers.load(path, size=(SIZE, SIZE), logits="other")
    model, x = importers.load(path, size=(SIZE, SIZE), logits="fine"), torch.rand(3, 3, SIZE, SIZE)
    assert (model.classes, model.source.output) == (CLASSES + 1, "fine")
    with torch.no_grad():
        assert torch.allclose(model.logits(x), module(x)["fine"], atol=1e-5)
    compared = importers.parity(model, x)
    assert compared is not None
    assert compared.rms < 1e-6
