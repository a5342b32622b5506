"""Files that are damaged, hostile or no classifier: one sentence each, no traceback."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from banscan import ModelError, UsageError, importers
from tests.importers.test_onnx import write


def refused(path: Path, match: str, kind: type[Exception] = ModelError, logits: str | None = None) -> None:
    with pytest.raises(kind, match=match) as caught:
        importers.load(path, logits=logits)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "no such file", UsageError)
    refused(tmp_path, "not a file", UsageError)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 1000, b"PK\x03\x04" + b"x" * 100])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    refused(path, "not a")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated(tmp_path: Path, model_file: Path, share: float) -> None:
    whole = model_file.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "truncated|not a valid")


def test_two_outputs(tmp_path: Path, model_file: Path) -> None:
    model = onnx.load(model_file)
    model.graph.output.append(helper.make_tensor_value_info(model.graph.node[0].output[0], 1, ["n", 8, "h", "w"]))
    onnx.save(model, tmp_path / "two.onnx")
    refused(tmp_path / "two.onnx", "2 outputs .*--logits")
    refused(tmp_path / "two.onnx", "no output 'other'", logits="other")
    named = importers.load(tmp_path / "two.onnx", logits="logits")
    x = torch.rand(3, 3, 16, 16)
    assert torch.equal(named.logits(x), importers.load(model_file).logits(x))
    parity = importers.parity(named, x)
    assert parity is not None
    assert parity.rms < 1e-6


def test_detection_like_output(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    path = write(tmp_path / "map.onnx", nodes, {"w": np.ones((4, 3, 1, 1))}, ["n", 3, 8, 8], ["n", 4, 8, 8])
    refused(path, "expected logits")


def test_no_weights(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)]
    refused(write(tmp_path / "mean.onnx", nodes, {}, ["n", 3, 8, 8], ["n", 3]), "expected an image classifier")


def test_unknown_operator(tmp_path: Path) -> None:
    nodes = [helper.make_node("Det", ["x"], ["d"]), helper.make_node("Gemm", ["d", "w"], ["y"])]
    refused(write(tmp_path / "det.onnx", nodes, {"w": np.ones((3, 4))}, ["n", 3, 8, 8], ["n", 4]), "Det")


def test_text_input(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    refused(write(tmp_path / "flat.onnx", nodes, {"w": np.ones((8, 4))}, ["n", 8], ["n", 4]), "expected one batch of images")


def external(tmp_path: Path, model_file: Path, location: str) -> Path:
    model = onnx.load(model_file)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "inside" / "external.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin"])
def test_external_data_outside_the_folder(tmp_path: Path, model_file: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 10000)
    refused(external(tmp_path, model_file, location), "outside the model's folder")


def test_external_data_through_a_link(tmp_path: Path, model_file: Path) -> None:
    path = external(tmp_path, model_file, "weights.bin")
    (tmp_path / "secret.bin").write_bytes(b"\0" * 10000)
    (path.parent / "weights.bin").symlink_to(tmp_path / "secret.bin")
    refused(path, "outside the model's folder")


def test_external_data_missing_or_short(tmp_path: Path, model_file: Path) -> None:
    path = external(tmp_path, model_file, "weights.bin")
    refused(path, "is missing")
    (path.parent / "weights.bin").write_bytes(b"\0" * 8)
    refused(path, "not a valid ONNX model|damaged")


def test_external_data_beside_the_model(tmp_path: Path, model_file: Path) -> None:
    path = tmp_path / "apart.onnx"
    onnx.save(onnx.load(model_file), path, save_as_external_data=True, location="apart.data", size_threshold=0)
    assert importers.load(path).classes == importers.load(model_file).classes


def test_absurd_shape(tmp_path: Path, model_file: Path) -> None:
    model = onnx.load(model_file)
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [1 << 30, 1 << 20]
    path = tmp_path / "huge.onnx"
    path.write_bytes(model.SerializeToString())
    refused(path, "claims")


def test_operators_of_other_domains_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Evil", ["x"], ["y"], domain="com.evil")
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", 1, ["n", 3, 8, 8])], [helper.make_tensor_value_info("y", 1, ["n", 4])]
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.evil", 1)]
    path = tmp_path / "evil.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    refused(path, "Evil")
