"""Files whose names are no text in UTF-8."""

import os
import shutil
from pathlib import Path

import onnx
import pytest
import torch

from banscan import importers
from banscan.importers import utf8
from tests.conftest import SIZE

ODD = os.fsdecode(b"\xff\xe9")


@pytest.mark.parametrize("name", [f"{ODD}.onnx", f"{ODD}/model.onnx", f"{ODD}/{ODD}.onnx"])
def test_a_model_is_read_and_compared(tmp_path: Path, model_file: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    shutil.copy(model_file, path)
    model = importers.load(path)
    parity = importers.parity(model, torch.rand(3, 3, SIZE, SIZE))
    assert parity is not None
    assert parity.rms < 1e-5
    assert model.source.path == path


def test_weights_beside_it_are_found(tmp_path: Path, model_file: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    onnx.save(onnx.load(model_file), plain / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    odd = plain.rename(tmp_path / ODD)
    parity = importers.parity(importers.load(odd / "model.onnx"), torch.rand(3, 3, SIZE, SIZE))
    assert parity is not None
    assert parity.rms < 1e-5


def test_other_paths_stay(tmp_path: Path) -> None:
    for path in (tmp_path, Path("été/止.onnx"), Path("\x1b")):
        with utf8.path_of(path) as same:
            assert same == path
    with utf8.path_of(tmp_path / ODD / "a") as link:
        assert link.name == "a"
        folder = link.parent.parent
    assert not folder.exists()
