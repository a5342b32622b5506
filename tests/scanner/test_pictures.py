"""Pictures of a scan: what is shown is what the model's own runtime says of the very pixels that are shown."""

import io
import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import banscan
from banscan.scanner.evidence import Evidence
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.pictures import FEWER, ROWS, SAMPLES, SIDE, png, table, upright
from banscan.scanner.search.changes import KEPT

QUICK = banscan.Settings(restarts=1, steps=2, images=16, effort="thorough", controls=False)
HERE = banscan.Options(device="cpu", preprocess="unit", precision="float32")


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def answers(model: Path, images: list[np.ndarray]) -> np.ndarray:
    """Confidences [N, C] of the file's own runtime."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    x = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255
    logits = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x})[0])
    return logits.softmax(1).numpy()


@pytest.fixture(scope="module")
def report(model_file: Path, image_dir: Path) -> banscan.Report:
    return banscan.scan(model_file, image_dir, settings=QUICK, options=HERE)


def found(report: banscan.Report) -> Evidence:
    assert report.evidence is not None
    return report.evidence


@pytest.mark.slow
def test_pictures_get_the_classes_that_are_said(report: banscan.Report, model_file: Path) -> None:
    evidence = found(report)
    before = answers(model_file, [pixels(s.png) for s in evidence.samples])
    assert before.argmax(1).tolist() == [s.was for s in evidence.samples]
    assert before.max(1) == pytest.approx([s.sure for s in evidence.samples], abs=1e-4)
    assert len({s.label for s in evidence.samples}) == SAMPLES
    seen = [s for c in evidence.changes for s in c.seen if s.png is not None]
    assert len(seen) > 10
    after = answers(model_file, [pixels(s.png or b"") for s in seen])
    assert after.argmax(1).tolist() == [s.now for s in seen]
    assert after.max(1) == pytest.approx([s.sure for s in seen], abs=1e-4)


@pytest.mark.slow
def test_pictures_differ_by_the_change(report: banscan.Report) -> None:
    """After is before with the change, which is shown `gain` times as strong around grey."""
    evidence = found(report)
    by = {name: [c for c in evidence.changes if c.criterion == name] for name in ("perturbation", "patch", "pixel map", "noise")}
    assert [len(own) for own in by.values()] == [KEPT, KEPT, 1, 1]
    for change in by["perturbation"] + by["patch"]:
        assert change.png is not None
        assert change.target is not None
        shift = (pixels(change.png) / 255 - 0.5) / change.gain
        for seen in change.seen:
            sample = evidence.samples[seen.sample]
            assert sample.label != change.target
            expected = (pixels(sample.png) / 255 + shift).clip(0, 1)
            uncut = np.abs(shift) * change.gain < 0.49 if change.criterion == "perturbation" else np.ones_like(shift, bool)
            assert np.abs(pixels(seen.png or b"") / 255 - expected)[uncut].max() < 3 / 255
    firsts = [own[0] for own in by.values()]
    assert [len(c.seen) for c in firsts[1:3]] <= [SAMPLES, SAMPLES]
    assert all(len(c.seen) <= FEWER for c in by["perturbation"][1:])
    assert all(s.png is None for s in by["noise"][0].seen)


@pytest.mark.slow
def test_the_matrix_is_that_of_the_shares(report: banscan.Report) -> None:
    """The mean over all images that noise moves to a class is what the report says of it."""
    moves = {m.criterion: m for m in found(report).moves}
    assert set(moves) == {"perturbation", "noise"}
    noise = moves["noise"]
    assert noise.sources == noise.targets == tuple(range(10))
    for place, reach in enumerate(report.reach):
        column = [row[place] for row in noise.shares]
        assert column[place] is None
        assert np.mean([share for share in column if share is not None]) == pytest.approx(reach.moved, abs=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("bgr", [False, True])
def test_channels_are_the_right_way_round(layout: str, bgr: bool) -> None:
    """A change that is added to what the model takes is shown where it would be in the image."""
    images = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 3), dtype=np.uint8)
    prepared = Preprocess("unit", bgr=bgr)
    change = torch.zeros(prepared(images, layout).shape[1:])
    change[(0, 1, 2) if layout == "NCHW" else (1, 2, 0)] = 0.25
    shown = upright(change, layout.index("C"), bgr)
    assert shown.shape == images.shape[1:]
    again = prepared(images + np.round(shown * 255).astype(np.uint8), layout) - prepared(images, layout)
    assert torch.allclose(again[0].remainder(256 / 255), change, atol=2 / 255)


@pytest.mark.slow
def test_a_report_travels_with_its_pictures(report: banscan.Report) -> None:
    again = pickle.loads(pickle.dumps(report))
    assert again == report
    assert again.to_html() == report.to_html()
    assert "What it does to your images" in again.to_html() or "The strongest changes found" in again.to_html()


def test_large_images_become_small() -> None:
    rng = np.random.default_rng(0)
    for shape in ((300, 200, 3), (64, 500, 1), (SIDE, SIDE, 3)):
        small = pixels(png(rng.integers(0, 256, shape, dtype=np.uint8)))
        assert max(small.shape[:2]) == SIDE
        assert small.shape[:2] == tuple(max(1, round(s * SIDE / max(shape))) for s in shape[:2])


def test_many_classes_are_summed_up() -> None:
    """More classes than a matrix has room for: the best reached have rows and columns, the others share a row."""
    classes = 3 * ROWS
    labels = torch.arange(classes).repeat(2)
    hits = torch.zeros(classes, len(labels))
    hits[7] = 1.0
    hits[9, ::2] = 1.0
    moves = table("noise", True, hits, labels, list(range(classes)), classes)
    assert moves.sources[-1] == -1
    assert len(moves.targets) == len(moves.sources) - 1 <= ROWS
    assert {7, 9} <= set(moves.targets)
    assert moves.shares[-1][moves.targets.index(7)] == 1.0
    assert moves.shares[-1][moves.targets.index(9)] == pytest.approx(0.5, abs=0.05)
