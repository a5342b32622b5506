"""The second reader of ONNX, onnx2torch: what it is for, that it is held to the same checks, and what is said where it is not there."""

import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests
from torch import nn

import banscan as package
from banscan import importers
from banscan.errors import ModelError, OperatorError
from banscan.importers import reading, sandbox
from banscan.importers.model import Input
from banscan.importers.onnx import lacking, second
from banscan.importers.onnx.inputs import Images
from banscan.importers.onnx.interpreter import Interpreter
from banscan.importers.onnx.lacking import DETECTION, KNOWN
from banscan.importers.onnx.operators import OPERATORS
from banscan.importers.sandbox.tasks import TASKS
from tests.importers.equivalent.network import graph
from tests.importers.equivalent.surgery import before_head, declare, front, node, put
from tests.scanner.cli.test_main import ROOT, banscan

there = pytest.mark.skipif(not lacking.installed(), reason="needs onnx2torch: make test-frameworks, or pip install --no-deps onnx2torch")
slow = pytest.mark.slow


def pooled(model_file: Path, path: Path, **attributes: Any) -> Path:
    """The network with the mean over all positions written as a mean over the largest of them, in no order: all of them."""
    model = onnx.load(model_file)
    at = next(i for i, n in enumerate(model.graph.node) if n.op_type == "GlobalAveragePool")
    pool = model.graph.node[at]
    put(model, rows=np.array([0, 0, -1]), many=np.array([64]))
    nodes = [
        node("Reshape", [pool.input[0], "rows"], ["positions"]),
        node("TopK", ["positions", "many"], ["largest", "places"], name="top", sorted=0, **attributes),
        node("ReduceMean", ["largest"], ["mean"], axes=[2], keepdims=1),
        node("Unsqueeze", ["mean", "behind"], [pool.output[0]]),
    ]
    put(model, behind=np.array([3]))
    before, after = list(model.graph.node[:at]), list(model.graph.node[at + 1 :])
    del model.graph.node[:]
    model.graph.node.extend([*before, *nodes, *after])
    onnx.save(model, path)
    return path


@pytest.fixture
def unordered(model_file: Path, tmp_path: Path) -> Path:
    return pooled(model_file, tmp_path / "unordered.onnx")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the confined process does is done in this one, where it can be changed."""

    def call(task: str, arguments: dict[str, Any], given: dict[str, Any] | None, **_: Any) -> tuple[Any, None]:
        return TASKS[task](**arguments, **(given or {})), None

    monkeypatch.setattr(sandbox, "call", call)


def wrong(convert: Callable[..., nn.Module]) -> Callable[[], Callable[[onnx.ModelProto], nn.Module]]:
    """onnx2torch with a mistake: a weight twice as large."""

    def mistaken(model: onnx.ModelProto) -> nn.Module:
        network: nn.Module = convert()(model)
        with torch.no_grad():
            next(network.parameters()).mul_(2)
        return network

    return lambda: mistaken


def test_what_it_has_is_written_down() -> None:
    """The two numbers in the documentation, and that nothing but detection and what the interpreter does by itself is beyond it."""
    assert KNOWN - OPERATORS.keys() == DETECTION | {"Constant"}
    text = " ".join((ROOT / "docs" / "importers.md").read_text().split())
    told = re.search(r"of the (\d+) operators that onnx2torch 1\.5\.15 has, our interpreter lacks (\d+)", text, re.IGNORECASE)
    assert told is not None
    assert tuple(map(int, told.groups())) == (len(KNOWN), len(DETECTION))


@there
def test_it_has_what_is_written_down() -> None:
    second._convert()
    registry = sys.modules["onnx2torch.node_converters.registry"]
    known = registry._CONVERTER_REGISTRY
    assert {entry.operation_type for entry in known} == KNOWN
    assert {entry.domain for entry in known} == {""}
    assert "torchvision" not in sys.modules


OPSETS = (17, 13, 11)


def own_tests() -> Iterator[tuple[onnx.ModelProto, str, np.ndarray, np.ndarray]]:
    """ONNX's tests of operators from floats to floats, as they are and in older opsets: graph, name of the image, image, answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    for case in cases:
        given, expected = case.data_sets[0] if case.data_sets else ([], [])
        names = [entry.name for entry in case.model.graph.input]
        at = next((i for i, value in enumerate(given) if getattr(value, "dtype", None) == np.float32 and value.ndim), None)
        if at is None or not all(isinstance(v, np.ndarray | np.generic) for v in (*given, expected[0])) or expected[0].dtype.kind != "f":
            continue
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        image = onnx.ValueInfoProto.FromString(model.graph.input[at].SerializeToString())
        del model.graph.input[:]
        model.graph.input.append(image)
        rest = [numpy_helper.from_array(np.asarray(v), n) for i, (v, n) in enumerate(zip(given, names, strict=True)) if i != at]
        model.graph.initializer.extend(rest)
        written = max(o.version for o in model.opset_import)
        for opset in (written, *(o for o in OPSETS if o < written)):
            older = onnx.ModelProto.FromString(model.SerializeToString())
            for entry in older.opset_import:
                entry.version = opset if not entry.domain else entry.version
            yield onnx.inliner.inline_local_functions(older), names[at], given[at], np.asarray(expected[0])


def answers(reader: Callable[[onnx.ModelProto, Images, str], nn.Module], case: tuple[onnx.ModelProto, str, np.ndarray, np.ndarray]) -> bool:
    """Whether a reader computes what is expected."""
    model, name, image, expected = case
    images = Images(name, Input(name, "NCHW", *[*image.shape[1:], 1, 1, 1][:3]), None)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reader(model, images, model.graph.output[0].name)(torch.from_numpy(image.copy()))
        found = (found[0] if isinstance(found, tuple | list) else found).numpy()
    except Exception:  # each has errors of its own
        return False
    return found.shape == expected.shape and np.allclose(found, expected, rtol=1e-3, atol=1e-4, equal_nan=True)


@slow
@there
def test_what_it_reads_is_read_without_it() -> None:
    """As the documentation says; where this fails with a newer onnx2torch, it has become good for more."""
    theirs, gained = 0, []
    for case in own_tests():
        if answers(lambda model, *_: second._convert()(model).eval(), case):
            theirs += 1
            if not answers(lambda *given: Interpreter(*given, None), case):
                gained.append(case[0].graph.name)
    assert theirs > 800
    assert gained == []


@slow
@there
def test_a_form_that_is_lacking(unordered: Path, model_file: Path) -> None:
    model, plain = importers.load(unordered), importers.load(model_file)
    assert model.source.reader == second.version()
    assert plain.source.reader is None
    assert set(model.source.weights.values()) == set(plain.source.weights.values())
    x = torch.rand(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    parity = importers.parity(model, x)
    assert parity is not None
    assert parity.rms < 1e-5
    assert torch.allclose(model.logits(x), plain.logits(x), atol=1e-4)
    assert (model.classes, len(model.neurons), model.input) == (plain.classes, len(plain.neurons), plain.input)


@there
def test_a_fixed_number_of_images(unordered: Path, tmp_path: Path) -> None:
    model = onnx.load(unordered)
    put(model, rows=np.array([1, 12, -1]))
    declare(model, "input", ("image", TensorProto.FLOAT, [1, 3, 16, 16]))
    declare(model, "output", ("logits", TensorProto.FLOAT, [1, 10]))
    onnx.save(model, tmp_path / "fixed.onnx")
    read = importers.load(tmp_path / "fixed.onnx")
    parity = importers.parity(read, torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert (read.source.reader, read.source.batch) == (second.version(), 1)
    assert parity is not None
    assert (parity.images, parity.rms < 1e-5) == (5, True)


@slow
@there
def test_the_command_line_says_who_read_it(unordered: Path, image_dir: Path) -> None:
    done = banscan(unordered, "--clean-dir", image_dir, "--dry-run", width=120)
    assert done.returncode == 0, done.stderr
    assert f"read by {second.version()}" in " ".join(done.stdout.split())
    written = banscan(unordered, "--clean-dir", image_dir, "--dry-run", "--format", "json")
    report = json.loads(written.stdout)
    pytest.importorskip("jsonschema").validate(report, json.loads((ROOT / "docs" / "report.schema.json").read_text()))
    assert report["model"]["reader"] == second.version()
    assert report["parity"]["rms"] < 1e-5
    for form in ("markdown", "html"):
        assert f"read by {second.version()}" in banscan(unordered, "--clean-dir", image_dir, "--dry-run", "--format", form).stdout.replace(
            "\\", ""
        )
    shown = banscan("inspect", unordered, width=120)
    assert f"read by {second.version()}" in " ".join(shown.stdout.split())


@slow
@there
def test_a_wrong_reading_is_no_reading(unordered: Path, image_dir: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second, "_convert", wrong(second._convert))
    report = package.dry_run(unordered, image_dir)
    assert report.verdict.outcome == "inconclusive"
    assert "the model was not read right" in report.verdict.reason
    assert report.model.reader == second.version()


@slow
@there
def test_a_misread_file_is_read_again(model_file: Path, image_dir: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    relu = OPERATORS["Relu"]
    monkeypatch.setitem(OPERATORS, "Relu", lambda call, x: relu(call, x) + 0.2 * torch.tanh(x))
    report = package.dry_run(model_file, image_dir)
    assert (report.verdict.outcome, report.model.reader) == ("not scanned", second.version())
    assert report.parity is not None
    assert report.parity.rms < 1e-5
    monkeypatch.setattr(second, "_convert", wrong(second._convert))
    both = package.dry_run(model_file, image_dir)
    assert both.verdict.outcome == "inconclusive"
    assert re.search(r"was not read right; by onnx2torch, .* was not read right$", both.verdict.reason)


@slow
def test_a_misread_file_without_it(model_file: Path, image_dir: Path, here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    relu = OPERATORS["Relu"]
    monkeypatch.setitem(OPERATORS, "Relu", lambda call, x: relu(call, x) + 0.2 * torch.tanh(x))
    monkeypatch.setattr(second, "installed", lambda: False)
    report = package.dry_run(model_file, image_dir)
    assert report.verdict.outcome == "inconclusive"
    assert re.search(r"was not read right; onnx2torch, .*is not installed \(pip install 'banscan\[onnx2torch\]'\)$", report.verdict.reason)


def refusal(model: onnx.ModelProto, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of a file where onnx2torch is not installed."""
    monkeypatch.setattr(lacking, "installed", lambda: False)
    onnx.save(model, path)
    with pytest.raises(ModelError) as caught:
        reading.read(path, None, None)
    assert type(caught.value) is ModelError
    return str(caught.value)


def test_without_it(unordered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it may know the operator, the refusal says where it is to be had; nowhere else."""
    path = tmp_path / "x.onnx"
    said = refusal(onnx.load(unordered), path, monkeypatch)
    assert re.search(r"TopK \(top\): an order .* is not supported; pip install 'banscan\[onnx2torch\]' brings a second reader", said)
    unknown = graph()
    before_head(unknown, node("RandomNormalLike", ["features"], ["noise"]), node("Add", ["features", "noise"], ["moved"]))
    assert "operator RandomNormalLike" in (said := refusal(unknown, path, monkeypatch))
    assert "onnx2torch" not in said
    pixels = graph()
    put(pixels, shape=np.array([1]), axes=np.array([0, 1]))
    nodes = [node("ReduceSum", ["features", "axes"], ["total"], keepdims=0), node("Cast", ["total"], ["size"], to=TensorProto.INT64)]
    nodes += [node("Reshape", ["size", "shape"], ["sizes"]), node("Expand", ["features", "sizes"], ["moved"])]
    before_head(pixels, *nodes)
    assert "computed from the pixels" in (said := refusal(pixels, path, monkeypatch))
    assert "onnx2torch" not in said


def test_it_is_asked_only_where_something_is_lacking(unordered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lacking, "installed", lambda: True)
    with pytest.raises(OperatorError, match="TopK"):
        reading.read(unordered, None, None)


def both(model: onnx.ModelProto, path: Path) -> str:
    """What is said of a file that neither reads."""
    onnx.save(model, path)
    with pytest.raises(ModelError) as caught:
        importers.load(path)
    said = str(caught.value)
    assert said.count(str(path)) == 1
    assert "\n" not in said
    return said


@there
def test_neither_reads_it(unordered: Path, tmp_path: Path) -> None:
    unknown = graph()
    before_head(unknown, node("RandomNormalLike", ["features"], ["noise"]), node("Add", ["features", "noise"], ["moved"]))
    said = both(unknown, tmp_path / "x.onnx")
    assert re.search(r"operator RandomNormalLike \(noise\) is not supported; onnx2torch does not read it \(Converter is not", said)
    shapes = onnx.load(unordered)
    put(shapes, first=np.array([0]), axis=np.array([0]), rest=np.array([12, -1]))
    at = next(i for i, n in enumerate(shapes.graph.node) if n.op_type == "Reshape")
    nodes = [
        node("Shape", [shapes.graph.node[at].input[0]], ["shape"]),
        node("Gather", ["shape", "first"], ["count"]),
        node("Concat", ["count", "rest"], ["sizes"], axis=0),
    ]
    shapes.graph.node[at].input[1] = "sizes"
    rest = list(shapes.graph.node)
    del shapes.graph.node[:]
    shapes.graph.node.extend([*rest[:at], *nodes, *rest[at:]])
    said = both(shapes, tmp_path / "y.onnx")
    assert re.search(r"TopK .* is not supported; by onnx2torch, the graph cannot be traced", said)


@there
def test_a_file_writes_no_code(unordered: Path, tmp_path: Path) -> None:
    """onnx2torch writes names of nodes into Python code, as they are; it gets none of the file's."""
    model, mark = onnx.load(unordered), tmp_path / "mark"
    evil = f'x") or open({str(mark)!r}, "w") or getattr(self, "x'
    for i, step in enumerate(model.graph.node):
        step.name = f"{evil}{i}"
        old, step.output[0] = step.output[0], f"{evil}{step.output[0]}" if i < len(model.graph.node) - 1 else step.output[0]
        for reader in model.graph.node:
            reader.input[:] = [step.output[0] if name == old else name for name in reader.input]
    onnx.save(model, tmp_path / "evil.onnx")
    read = reading.read(tmp_path / "evil.onnx", None, None, again=True)
    assert read.source.reader == second.version()
    assert not mark.exists()


@there
@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT16])
def test_other_numbers_than_float32(kind: int, tmp_path: Path) -> None:
    model = graph()
    if kind == TensorProto.UINT8:
        front(model, node("Cast", ["image"], ["image_"], to=TensorProto.FLOAT), sizes=["batch", 3, 16, 16], kind=kind)
    else:
        weights = {t.name: numpy_helper.to_array(t).astype(np.float16) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
        put(model, **weights)
        declare(model, "input", ("image", kind, ["batch", 3, 16, 16]))
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ModelError, match="onnx2torch is asked for"):
        importers.load(tmp_path / "x.onnx", again=True)


def test_formats_without_a_second_reader(tmp_path: Path, trained: nn.Module) -> None:
    free = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(trained, (torch.rand(2, 3, 16, 16),), dynamic_shapes=free), tmp_path / "x.pt2")
    with pytest.raises(ModelError, match=r"no second reader of torch\.export files"):
        importers.load(tmp_path / "x.pt2", again=True)
    assert [f.name for f in importers.FORMATS if f.second is not None] == ["ONNX"]
