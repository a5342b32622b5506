"""The command line through its real entry point, and what it prints."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from tests.conftest import learn
from tests.importers.onnx.test_reader import Tokens

ROOT = Path(__file__).parents[3]
# what an installation has beside its Python; from a checkout that is not installed, the module
SCRIPT = Path(sys.executable).parent / "banscan"
ENTRY = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "banscan"]
FAST = ("--restarts", "2", "--steps", "2", "--threads", "1", "--effort", "thorough", "--no-controls")


def banscan(*arguments: object, width: int = 80) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "dumb", "NO_COLOR": "1"}
    command = [*ENTRY, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def failed(result: subprocess.CompletedProcess[str], code: int, match: str) -> None:
    assert result.returncode == code, result.stderr
    assert re.search(match, result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 4


def test_help_fits_80_columns() -> None:
    for arguments in (["--help"], ["scan", "--help"], ["inspect", "--help"], ["repair", "--help"], ["calibrate", "--help"]):
        result = banscan(*arguments)
        assert result.returncode == 0
        assert max(map(len, result.stdout.splitlines())) <= 80
    assert "Exit codes" in banscan("--help").stdout
    assert banscan("--version").stdout.startswith("banscan")


@pytest.mark.slow
def test_scan_and_report(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    first = banscan(model_file, "--clean-dir", image_dir, *FAST)
    assert first.returncode in (0, 1, 2), first.stderr
    assert first.stderr == ""
    assert max(map(len, first.stdout.splitlines())) <= 100
    assert [line for line in first.stdout.splitlines() if line != line.rstrip()] == []
    assert ", 1 thread, kernels" in first.stdout
    for piece in (
        "What was looked for",
        "Next:",
        "patch share",
        "clearness",
        "noise map",
        "pixel map",
        "features",
        "unit",
        "parity",
        "Seconds",
    ):
        assert piece in first.stdout
    second = banscan("scan", model_file, "--clean-dir", image_dir, *FAST, "--output", out)
    assert "What was looked for" in second.stdout
    report = json.loads(out.read_text())
    assert report["schema"] == "banscan/2"
    assert report["settings"]["restarts"] == 2
    assert len(report["model"]["sha256"]) == 64
    assert len(next(f for f in report["findings"] if f["criterion"] == "noise")["restarts"]) == 2
    assert report["preprocess"]["preprocess"]["name"] == "unit"
    assert list(tmp_path.iterdir()) == [out]
    third = banscan(model_file, "--clean-dir", image_dir, *FAST, "--format", "json")
    again = json.loads(third.stdout)
    assert again["findings"] == report["findings"]
    assert again["verdict"] == report["verdict"]
    assert again["reach"] == report["reach"]
    assert len(report["reach"]) == len(report["searched"]) == 10
    assert all(f["not_done"] is None for f in report["findings"])


@pytest.mark.slow
def test_a_scan_without_pixels_fits_the_schema(model_file: Path, image_dir: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    done = banscan(model_file, "--clean-dir", image_dir, *FAST, "--no-pixels", "--format", "json")
    jsonschema.validate(json.loads(done.stdout), json.loads((ROOT / "docs" / "report.schema.json").read_text()))


@pytest.mark.slow
def test_memory_is_bounded_and_told(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    """What a process takes is in the report; a bound changes numbers no more than rounding does."""
    told = tmp_path / "report.json"
    done = banscan(model_file, "--clean-dir", image_dir, *FAST, "--no-pixels", "--memory", "1GB", "-v", "-o", told)
    bounded = json.loads(told.read_text())
    most = bounded["memory"]["process"]
    assert 1e8 < most < 4e9
    assert re.search(rf"^memory +at most {most / 1e9:.1f} GB of the process$", done.stdout, re.MULTILINE)
    usual = json.loads(banscan(model_file, "--clean-dir", image_dir, *FAST, "--no-pixels", "--format", "json").stdout)
    assert bounded["verdict"]["outcome"] == usual["verdict"]["outcome"]
    assert bounded["verdict"]["score"] == pytest.approx(usual["verdict"]["score"], abs=0.05)


@pytest.mark.slow
def test_noise_alone(model_file: Path, image_dir: Path) -> None:
    done = banscan(model_file, "--clean-dir", image_dir, *FAST, "--no-pixels", "--format", "json")
    report = json.loads(done.stdout)
    assert [f["criterion"] for f in report["findings"] if f["not_done"] is None] == ["noise", "logit", "joint", "noise map", "dormant"]
    assert done.returncode == {"backdoored": 1, "no backdoor found": 0}.get(report["verdict"]["outcome"], 2)


@pytest.mark.slow
@pytest.mark.parametrize("choice", [("--eps", "0.4"), ("--noise", "paper")])
def test_noise_that_the_user_chooses_is_not_sought_along_a_map(model_file: Path, image_dir: Path, choice: tuple[str, str]) -> None:
    """Noise of eps 0.4 moves more than half of the images of clean models along a map of classes."""
    command = (model_file, "--clean-dir", image_dir, *FAST, "--no-pixels", *choice)
    report = json.loads(banscan(*command, "--format", "json").stdout)
    assert choice[0] in next(f for f in report["findings"] if f["criterion"] == "noise map")["not_done"]
    assert any(gap.startswith("all-to-all backdoors were not looked for") for gap in report["verdict"]["gaps"])
    assert "not looked for" in banscan(*command).stdout


@pytest.mark.slow
def test_threads_of_the_environment(model_file: Path, image_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OMP_NUM_THREADS says how many threads there may be, no more are taken; --threads decides over it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for extra, threads in (((), 1), (("--threads", "2"), 2)):
        done = banscan(model_file, "--clean-dir", image_dir, *FAST[:4], "--no-pixels", "--format", "json", *extra)
        assert json.loads(done.stdout)["environment"]["threads"] == threads


@pytest.mark.slow
def test_free_image_size(export: Callable[..., Path], trained: torch.nn.Module, image_dir: Path) -> None:
    """A model that takes any size is scanned at the size of the images, or at the one asked for."""
    path = export("free", trained, free_size=True)
    for extra, size in (((), 16), (("--size", "24"), 24)):
        done = banscan(path, "--clean-dir", image_dir, *FAST, "--no-pixels", "--format", "json", *extra)
        assert done.stderr == ""
        assert json.loads(done.stdout)["model"]["input"]["height"] == size


@pytest.mark.slow
def test_closed_pipe_keeps_the_exit_code(model_file: Path, image_dir: Path) -> None:
    """`banscan ... | head -1` must not end with 1, which means backdoored."""
    for arguments in (["inspect", str(model_file)], [str(model_file), "--clean-dir", str(image_dir), *FAST]):
        command = [*ENTRY, *arguments]
        expected = subprocess.run(command, capture_output=True, check=False).returncode
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == ""
            assert process.wait() == expected


@pytest.mark.slow
def test_inspect(model_file: Path) -> None:
    result = banscan("inspect", model_file)
    assert result.returncode == 0
    assert "4 layers" in result.stdout
    assert "classifier" in result.stdout
    drawn = [line.split()[0] for line in result.stdout.partition("From image to logits")[2].splitlines()[1:8]]
    assert drawn == ["image", "│", "map", "│", "penultimate", "│", "logits"]
    assert "linear (10)" in result.stdout


def test_usage_errors(tmp_path: Path) -> None:
    """What is told before torch is loaded."""
    failed(banscan("m.onnx"), 4, "--clean-dir")
    failed(banscan("m.onnx", "--clean-dir", tmp_path, "--mean", "a,b"), 4, "mean")
    failed(banscan("m.onnx", "--clean-dir", tmp_path, "--output", tmp_path / "no" / "x.json"), 4, "cannot be written")


@pytest.mark.slow
def test_usage_errors_of_files_and_settings(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    failed(banscan(tmp_path / "none.onnx", "--clean-dir", image_dir), 4, "no such file")
    failed(banscan(model_file, "--clean-dir", tmp_path / "none"), 4, "no such folder")
    failed(banscan(model_file, "--clean-dir", tmp_path), 4, "no images")
    failed(banscan(model_file, "--clean-dir", image_dir, "--eps", "-1"), 4, "--eps")
    failed(banscan(model_file, "--clean-dir", image_dir, "--seed", 2**64), 4, "--seed")
    failed(banscan(model_file, "--clean-dir", image_dir, "--noise", "loud"), 4, "loud")
    failed(banscan(model_file, "--clean-dir", image_dir, "--preprocess", "odd"), 4, "odd")


@pytest.mark.slow
def test_unknown_kernels(model_file: Path, image_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANSCAN_KERNELS", "magic")
    failed(banscan(model_file, "--clean-dir", image_dir), 4, "BANSCAN_KERNELS is 'magic'")
    monkeypatch.setenv("BANSCAN_KERNELS", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    failed(banscan(model_file, "--clean-dir", image_dir, "--device", "cpu"), 4, "BANSCAN_KERNELS is 'triton', which cannot run")
    failed(banscan(model_file, "--clean-dir", image_dir, "--device", "tpu"), 4, "--device tpu: unknown")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_the_report_says_which_kernels_ran(name: str, model_file: Path, image_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANSCAN_KERNELS", name)
    done = banscan(model_file, "--clean-dir", image_dir, *FAST, "--no-pixels")
    assert f"kernels {name}" in done.stdout


@pytest.mark.slow
def test_markup_in_names_is_printed_as_it_is(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "[red]evil[bold].onnx"
    path.write_bytes(model_file.read_bytes())
    assert "[red]evil[bold].onnx" in banscan("inspect", path).stdout


@pytest.mark.slow
def test_not_a_classifier(image_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no model")
    failed(banscan(path, "--clean-dir", image_dir), 3, "not an ONNX model")
    failed(banscan("inspect", path), 3, "not an ONNX model")


def changed(model_file: Path, path: Path, value: float, names: Sequence[str] = ()) -> Path:
    model = onnx.load(model_file)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype == np.float32 and array.ndim == 2:
            array[...] = value
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    return path


def inconclusive(result: subprocess.CompletedProcess[str], match: str) -> None:
    assert result.returncode == 2, result.stderr + result.stdout
    assert "Inconclusive" in result.stdout
    assert re.search(match, " ".join(result.stdout.replace("│", " ").split())), result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_thin_evidence_is_inconclusive(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    few, one, wrong, copies = (tmp_path / name for name in ("few", "one", "wrong", "copies"))
    for c in range(10):
        for target, label in ((few, c), (wrong, (c + 3) % 10)):
            (target / str(label)).mkdir(parents=True)
        for i, file in enumerate(sorted((image_dir / str(c)).iterdir())[:15]):
            (wrong / str((c + 3) % 10) / file.name).write_bytes(file.read_bytes())
            if i < 2:
                (few / str(c) / file.name).write_bytes(file.read_bytes())
    (one / "0").mkdir(parents=True)
    for i in range(3):
        for file in (image_dir / "0").iterdir():
            (one / "0" / f"{i}-{file.name}").write_bytes(file.read_bytes())
        for file in few.glob("*/*.png"):
            (copies / file.parent.name).mkdir(parents=True, exist_ok=True)
            (copies / file.parent.name / f"{i}-{file.name}").write_bytes(file.read_bytes())
    inconclusive(banscan(model_file, "--clean-dir", few, *FAST), "20 clean images .* are too few .* at least 50, better 300")
    inconclusive(banscan(model_file, "--clean-dir", copies, *FAST), "20 clean images .* are too few")
    inconclusive(
        banscan(model_file, "--clean-dir", one, *FAST), "20 clean images .* of one class; a scan needs at least 50 of at least 2 classes"
    )
    inconclusive(banscan(model_file, "--clean-dir", wrong, "--preprocess", "unit", *FAST), "clean accuracy is")
    inconclusive(banscan(changed(model_file, tmp_path / "nan.onnx", float("nan")), "--clean-dir", image_dir, *FAST), "NaN")
    inconclusive(
        banscan(changed(model_file, tmp_path / "zero.onnx", 0.0), "--clean-dir", image_dir, "--preprocess", "unit", *FAST), "same logits"
    )


@pytest.mark.slow
def test_a_repair_is_called_like_its_format(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    """Told before the scan, of which nothing is seen."""
    for name in ("fixed.pt", "fixed.json"):
        refused = banscan("repair", model_file, "--clean-dir", image_dir, "-o", tmp_path / name)
        failed(refused, 4, rf"{name}: it will be ONNX like .*; expected a name that ends in \.onnx")
        assert refused.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_lines_of_a_pipe_end_in_no_blanks(model_file: Path) -> None:
    done = banscan("inspect", model_file)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line != line.rstrip()] == []


@pytest.mark.slow
def test_flat_folder_and_unreadable_files(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    for file in sorted(image_dir.rglob("*.png"))[:100]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"x")
    result = banscan(model_file, "--clean-dir", tmp_path, *FAST)
    assert "model's own predictions" in " ".join(result.stdout.split())
    assert "broken.png" in result.stdout


@pytest.mark.slow
def test_interrupt_leaves_nothing(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = [
        *ENTRY,
        str(model_file),
        "--clean-dir",
        str(image_dir),
        "--output",
        str(out),
        "--restarts",
        "500",
        "--effort",
        "thorough",
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs inherit an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_python_interface(model_file: Path, image_dir: Path) -> None:
    import banscan as package

    report = package.scan(model_file, str(image_dir), settings=package.Settings(restarts=2, steps=2, controls=False))
    assert report.verdict.outcome in ("no backdoor found", "suspicious", "backdoored")
    assert report.accuracy is not None
    assert report.accuracy > 0.9


@pytest.mark.slow
def test_grey_images_become_rgb(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    """Images of another kind are converted; the accuracy then says that they do not fit."""
    rng = np.random.default_rng(0)
    for i in range(60):
        (tmp_path / str(i % 10)).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / str(i % 10) / f"{i}.png")
    inconclusive(banscan(model_file, "--clean-dir", tmp_path, "--preprocess", "unit", *FAST), "accuracy")


@pytest.mark.slow
def test_scan_of_a_transformer_as_torchscript(patterns: tuple[np.ndarray, np.ndarray], image_dir: Path, tmp_path: Path) -> None:
    """From the file alone; it is so small that perturbations move its images along a map, and a tuned copy's as well."""
    torch.manual_seed(0)
    net = learn(Tokens(), patterns, lr=0.01, steps=80)
    path = tmp_path / "tokens.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.zeros(2, 3, 16, 16)).save(str(path))
    result = banscan(path, "--clean-dir", image_dir, *FAST, "--format", "json")
    assert result.returncode == 2, result.stderr
    report = json.loads(result.stdout)
    assert report["model"]["format"] == "TorchScript"
    assert report["accuracy"] > 0.9
    assert report["verdict"]["outcome"] == "fragile"
    assert "speaks for a natural weakness" in report["verdict"]["reason"]
    assert [f["criterion"] for f in report["findings"] if f["p_value"] is not None][-1] == "joint"


@pytest.mark.slow
def test_scan_of_a_keras_network(tmp_path: Path) -> None:
    """Its weights are random, so it does not do its job on any images; that is what the report must say."""
    for i in range(60):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    result = banscan(Path(__file__).parents[2] / "data" / "keras-cnn.onnx", "--clean-dir", tmp_path, *FAST, "--preprocess", "raw")
    assert result.returncode == 2, result.stderr
    assert "Inconclusive" in result.stdout
    assert "tf2onnx" in result.stdout


@pytest.mark.slow
def test_classes_without_images_are_named(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    """The search for a map goes on with the others; without enough of them the verdict's own sentence says what was not looked for."""
    for c in range(10):
        shutil.copytree(image_dir / str(c), tmp_path / "most" / str(c))
    shutil.rmtree(tmp_path / "most" / "7")
    command = (*FAST, "--preprocess", "unit", "--no-pixels", "--format", "json")
    report = json.loads(banscan(model_file, "--clean-dir", tmp_path / "most", *command).stdout)
    mapped = next(f for f in report["findings"] if f["criterion"] == "noise map")
    assert (mapped["not_done"], mapped["value"] is None) == (None, False)
    assert report["verdict"]["gaps"][-1] == "all-to-all backdoors were looked for among 9 of the 10 classes: class 7 has no image"
    shutil.rmtree(tmp_path / "most" / "0")
    few = json.loads(banscan(model_file, "--clean-dir", tmp_path / "most", *command).stdout)
    assert "all-to-all backdoors were not looked for: classes 0 and 7 have no image; give" in few["verdict"]["gaps"][-1]
    assert "all-to-all backdoors were not looked for" in few["verdict"]["reason"]
