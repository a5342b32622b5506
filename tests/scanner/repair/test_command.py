"""`banscan repair` as a process."""

import re
from pathlib import Path

import pytest

from tests.importers import matrix
from tests.scanner.cli.test_main import banscan, failed

FAST = ("--restarts", "1", "--steps", "2", "--no-pixels", "--epochs", "2")


@pytest.mark.slow
def test_command(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "fixed.onnx"
    arguments = ("repair", model_file, "--clean-dir", image_dir, "-o", output, *FAST)
    failed(banscan(*arguments), 4, "--force")
    assert list(tmp_path.iterdir()) == []
    done = banscan(*arguments, "--force")
    assert done.returncode in (0, 2), done.stderr
    assert "benign accuracy on the 40 images kept" in done.stdout
    assert len(re.findall(r"epoch \d: loss \d\.\d+ on clean images.*; accuracy \d+\.\d% on the images kept", done.stderr)) == 2
    assert "does not prove" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["fixed.onnx"]
    assert banscan("inspect", output).returncode == 0
    assert output.read_bytes() != model_file.read_bytes()


@pytest.mark.slow
def test_usage(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    own = tmp_path / "model.onnx"
    own.write_bytes(model_file.read_bytes())
    failed(banscan("repair", own, "--clean-dir", image_dir, "-o", own), 4, "another name")
    failed(banscan("repair", own, "--clean-dir", image_dir, "-o", tmp_path / "none" / "x.onnx"), 4, "cannot be written")
    failed(banscan("repair", own, "--clean-dir", image_dir, "-o", tmp_path / "x.onnx", "--method", "magic"), 4, "magic")
    failed(banscan("repair", own, "--clean-dir", image_dir), 4, "--output")
    for option, value in (("--epochs", "0"), ("--lr", "nan"), ("--lambda2", "inf"), ("--max-accuracy-drop", "nan"), ("--tune-images", "0")):
        failed(banscan("repair", own, "--clean-dir", image_dir, "-o", tmp_path / "x.onnx", option, value), 4, option)


@pytest.mark.slow
def test_what_cannot_be_written_is_said_before_any_work(image_dir: Path, tmp_path: Path) -> None:
    path = matrix.write("vgg", "torch.export", tmp_path)
    failed(banscan("repair", path, "--clean-dir", image_dir, "-o", tmp_path / "x.pt2"), 3, "cannot be written back")
    path = matrix.write("vgg", "ONNX 17, 8 bits QDQ", tmp_path)
    failed(banscan("repair", path, "--clean-dir", image_dir, "-o", tmp_path / "x.onnx"), 3, "--dequantize")
