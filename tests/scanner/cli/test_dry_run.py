"""What a scan would do, told without searching: on the command line and from Python."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import banscan as package
from banscan.scanner.findings import PLANNED
from banscan.scanner.inputs.preprocess import NAMES
from banscan.scanner.report import formats
from banscan.scanner.report.json import read, render, to_dict
from tests.scanner.cli.test_main import banscan, inconclusive

pytestmark = pytest.mark.slow


def test_dry_run(model_file: Path, image_dir: Path, schema: Callable[[Any], None]) -> None:
    done = banscan(model_file, "--clean-dir", image_dir, "--dry-run", "--no-pixels")
    assert done.returncode == 0, done.stderr
    for piece in (
        "Not scanned",
        "nothing was searched for",
        "What a scan would look for, among 10 classes",
        "noise map",
        "--no-pixels leaves out",
        "200 images of 10 classes in class folders numbered 0 to 9",
        "of the clean images get their label",
        "Preprocessings tried",
        "parity",
    ):
        assert piece in " ".join(done.stdout.split()), piece
    written = banscan(model_file, "--clean-dir", image_dir, "--dry-run", "--no-pixels", "--format", "json")
    report = json.loads(written.stdout)
    schema(report)
    assert written.returncode == 0
    assert (report["verdict"]["outcome"], report["verdict"]["score"]) == ("not scanned", None)
    assert all(f["value"] is None and f["not_done"] for f in report["findings"])
    assert render(read(written.stdout)) == written.stdout


def test_dry_run_ends_like_the_scan(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for c in range(10):
        (few / str(c)).mkdir(parents=True)
        (few / str(c) / "a.png").write_bytes(sorted((image_dir / str(c)).iterdir())[0].read_bytes())
    inconclusive(banscan(model_file, "--clean-dir", few, "--dry-run"), "10 clean images .* are too few")
    with pytest.raises(package.UsageError, match="no such file"):
        package.dry_run(model_file, few, options=package.Options(labels=tmp_path / "none.csv"))
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(package.ModelError, match="not an ONNX model"):
        package.dry_run(tmp_path / "x.onnx", few)


def test_dry_run_from_python(model_file: Path, image_dir: Path) -> None:
    report = package.dry_run(model_file, image_dir, settings=package.Settings(targets=4), options=package.Options(max_images=100, size=99))
    assert report.verdict.outcome == "not scanned"
    assert "not asked: noise, logit, margin, perturbation, patch, joint" in report.verdict.gaps[0]
    assert "4 classes are too few" in report.verdict.gaps[0]
    assert {f.criterion for f in report.findings if f.not_done == PLANNED} == {"patch share", "clearness", "transform", "dormant"}
    assert report.images.left_out == ("--size 99 not used, the model takes 16×16 only",)


def test_labels_in_another_order(model_file: Path, image_dir: Path, tmp_path: Path, schema: Callable[[Any], None]) -> None:
    """Folders 1 to 10 but for the last class, and the way out that the sentence names."""
    for c in range(9):
        (tmp_path / "imgs" / str(c + 1)).mkdir(parents=True)
        for file in (image_dir / str(c)).iterdir():
            (tmp_path / "imgs" / str(c + 1) / file.name).write_bytes(file.read_bytes())
    report = package.dry_run(model_file, tmp_path / "imgs")
    schema(to_dict(report))
    assert report.verdict.outcome == "inconclusive"
    assert "with 1 taken off every label it is" in report.verdict.reason
    assert "--classes FILE" in report.verdict.reason
    assert "the lines 1 to 10, also for classes without images (seq 1 10 > classes.txt)" in report.verdict.reason
    assert report.preprocess is not None
    assert report.preprocess.preprocess is not None
    assert report.preprocess.preprocess.name == "unit"
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{c + 1}\n" for c in range(10)))
    told = package.dry_run(model_file, tmp_path / "imgs", options=package.Options(classes=names))
    assert told.verdict.outcome == "not scanned"
    assert told.accuracy is not None
    assert told.accuracy > 0.9


def test_an_undecided_preprocessing_shows_the_candidates(model_file: Path, tmp_path: Path, schema: Callable[[Any], None]) -> None:
    rng = np.random.default_rng(1)
    for i in range(100):
        (tmp_path / str(i % 10)).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / str(i % 10) / f"{i}.png")
    report = package.scan(model_file, tmp_path)
    schema(to_dict(report))
    assert "of the images get their label" in report.verdict.reason
    assert report.preprocess is not None
    assert report.preprocess.preprocess is None
    assert {s.name for s in report.preprocess.table} == set(NAMES) - {"half"}
    stream = io.StringIO()
    formats.named("terminal").scan(report, stream)
    printed = stream.getvalue()
    assert "undecided" in printed
    assert all(f"\n{s.name} " in printed for s in report.preprocess.table)
