"""Files that compute one function get one verdict, with the same numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from banscan.scanner.findings import SHARE, Report
from banscan.scanner.scan import scan
from banscan.scanner.settings import Options, Settings
from tests.importers.equivalent.surgery import front, node, put, tail

pytestmark = pytest.mark.slow
QUICK = Settings(restarts=1, steps=2, controls=False)


def probabilities(model: onnx.ModelProto) -> None:
    put(model, shape=np.array([-1, 10]))
    tail(model, node("Softmax", ["raw"], ["s"], axis=1), node("Reshape", ["s", "shape"], ["p"]), sizes=["batch", 10])


def pixels(model: onnx.ModelProto) -> None:
    put(model, k255=np.float32(255))
    nodes = node("Cast", ["image"], ["f"], to=TensorProto.FLOAT), node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2])
    front(model, *nodes, node("Div", ["t", "k255"], ["image_"]), sizes=["batch", 16, 16, 3], kind=TensorProto.UINT8)


def rounded(model: onnx.ModelProto) -> None:
    """Rounds pixels that are whole numbers already: what is computed stays, the gradient is gone."""
    put(model, k255=np.float32(255))
    steps = node("Mul", ["image", "k255"], ["m"]), node("Round", ["m"], ["r"])
    front(model, *steps, node("Div", ["r", "k255"], ["image_"]), sizes=["batch", 3, 16, 16])


def scanned(path: Path, folder: Path, preprocess: str, precision: str = "float32") -> Report:
    return scan(path, folder, settings=QUICK, options=Options(preprocess=preprocess, precision=precision, device="cpu"))


@pytest.fixture(scope="module")
def plain(model_file: Path, image_dir: Path) -> Report:
    return scanned(model_file, image_dir, "unit")


@pytest.mark.parametrize(("change", "preprocess"), [(probabilities, "unit"), (pixels, "raw")])
def test_the_same_verdict(
    change: Callable[[onnx.ModelProto], None], preprocess: str, plain: Report, model_file: Path, image_dir: Path, tmp_path: Path
) -> None:
    model = onnx.load(model_file)
    change(model)
    onnx.save(model, tmp_path / "form.onnx")
    found = scanned(tmp_path / "form.onnx", image_dir, preprocess)
    ours, theirs = found.verdict, plain.verdict
    assert (ours.outcome, ours.criterion, ours.targets) == (theirs.outcome, theirs.criterion, theirs.targets)
    assert ours.p_value == pytest.approx(theirs.p_value, rel=1e-2)
    for one, other in zip(found.findings, plain.findings, strict=True):
        assert one.classes == other.classes
        # on some processors the order of sums turns the answer for one image of the third that maps are measured on
        near = 1 / 66 if one.unit == SHARE else 0.0
        assert one.value == pytest.approx(other.value, rel=1e-2, abs=near), one.criterion


@pytest.mark.parametrize("change", [rounded, pixels])
def test_a_graph_with_casts_and_roundings_is_searched_in_bfloat16(
    change: Callable[[onnx.ModelProto], None], model_file: Path, image_dir: Path, tmp_path: Path
) -> None:
    model = onnx.load(model_file)
    change(model)
    onnx.save(model, tmp_path / "form.onnx")
    found = scanned(tmp_path / "form.onnx", image_dir, "raw" if change is pixels else "unit", "bfloat16")
    assert found.verdict.outcome in ("no backdoor found", "suspicious")
    assert all(f.not_done is None for f in found.findings), [f.not_done for f in found.findings]
