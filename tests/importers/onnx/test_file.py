"""ONNX files that are damaged, hostile or no classifier: one sentence each, no traceback."""

import hashlib
import itertools
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from banscan import ModelError, importers
from banscan.importers.digest import identity
from tests.importers.equivalent.network import graph
from tests.importers.equivalent.surgery import before_head
from tests.importers.onnx.test_reader import write
from tests.importers.test_load import refused


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated(tmp_path: Path, model_file: Path, share: float) -> None:
    whole = model_file.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "truncated|not a valid")


def test_detection_like_output(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    path = write(tmp_path / "map.onnx", nodes, {"w": np.ones((4, 3, 1, 1))}, ["n", 3, 8, 8], ["n", 4, 8, 8])
    refused(path, "expected logits")


def test_no_weights(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)]
    refused(write(tmp_path / "mean.onnx", nodes, {}, ["n", 3, 8, 8], ["n", 3]), "expected an image classifier")


def test_unknown_operator(tmp_path: Path) -> None:
    nodes = [helper.make_node("MaxRoiPool", ["x", "r"], ["d"], pooled_shape=[1, 1]), helper.make_node("Gemm", ["d", "w"], ["y"])]
    weights = {"w": np.ones((3, 4)), "r": np.ones((1, 5))}
    refused(write(tmp_path / "roi.onnx", nodes, weights, ["n", 3, 8, 8], ["n", 4]), r"operator MaxRoiPool \(d\) is not supported")


def test_text_input(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    refused(write(tmp_path / "flat.onnx", nodes, {"w": np.ones((8, 4))}, ["n", 8], ["n", 4]), "a row of 8 values")


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


def test_a_model_is_known_by_its_weights_wherever_they_are(tmp_path: Path, model_file: Path) -> None:
    assert identity(model_file) == importers.sha256(model_file) == importers.load(model_file).source.sha256
    path = tmp_path / "apart.onnx"
    onnx.save(onnx.load(model_file), path, save_as_external_data=True, location="apart.data", size_threshold=0)
    before, beside = identity(path), (tmp_path / "apart.data").read_bytes()
    assert importers.load(path).source.sha256 == before
    both = importers.sha256(path) + importers.sha256(tmp_path / "apart.data")
    assert before == hashlib.sha256(both.encode()).hexdigest()
    (tmp_path / "apart.data").write_bytes(bytes([beside[0] ^ 1]) + beside[1:])
    assert identity(path) != before
    # a word in a file is not enough, and what is wrong is told by who reads it
    (tmp_path / "other.onnx").write_bytes(b"location")
    (tmp_path / "apart.data").unlink()
    for file in (tmp_path / "other.onnx", path):
        assert identity(file) == importers.sha256(file)


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


def test_cycle(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w"], ["y"]),
    ]
    refused(write(tmp_path / "cycle.onnx", nodes, {"w": np.ones((8, 4))}, ["n", 3, 8, 8], ["n", 4]), "not a valid ONNX model")


@pytest.mark.parametrize("shape", [["n", 3, 1 << 30, 8], ["n", 3, 8, -8], ["n", 1 << 40], ["n", 3, 1 << 20, 1 << 20]])
def test_absurd_input(tmp_path: Path, shape: list[int | str]) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
    refused(write(tmp_path / "input.onnx", nodes, {"w": np.ones((192, 4))}, shape, ["n", 4]), "expected images")


@pytest.mark.slow
def test_absurd_activation(tmp_path: Path) -> None:
    """Small in the file, terabytes once an image runs through."""
    nodes = [
        helper.make_node("Resize", ["x", "", "s"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    weights = {"w": np.ones((3, 4)), "s": np.array([1, 1, 1 << 20, 1 << 20])}
    refused(write(tmp_path / "resize.onnx", nodes, weights, ["n", 3, 8, 8], ["n", 4]), "damaged or hostile")


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("ConstantOfShape", ["big"], ["t"], value=onnx.numpy_helper.from_array(np.ones(1, np.int64))),
        helper.make_node("Range", ["zero", "big", "one"], ["t"]),
        helper.make_node("Tile", ["one", "big"], ["t"]),
    ],
    ids=lambda node: node.op_type,
)
def test_absurd_table(tmp_path: Path, node: onnx.NodeProto) -> None:
    nodes = [
        node,
        helper.make_node("ReduceSum", ["t"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=1),
        helper.make_node("Mul", ["x", "c"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    path = write(tmp_path / "table.onnx", nodes, {"w": np.ones((192, 4))}, ["n", 3, 8, 8], ["n", 4])
    model = onnx.load(path)
    scalar = node.op_type == "Range"
    for name, value in (("big", 1 << 40), ("zero", 0), ("one", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value if scalar else [value], np.int64), name))
    onnx.save(model, path)
    refused(path, "a table of")


def functions(path: Path, bodies: dict[str, list[str]]) -> Path:
    """A model whose functions call one another in a row."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]

    def nodes(calls: list[str], last: str) -> list[onnx.NodeProto]:
        names = ["x", *(f"t{i}" for i in range(len(calls) - 1)), last]
        domains = ["" if call[0].isupper() else "f" for call in calls]
        return [helper.make_node(c, [a], [b], domain=d) for c, d, a, b in zip(calls, domains, names, names[1:], strict=False)]

    made = [helper.make_function("f", name, ["x"], ["y"], nodes(calls, "y"), opsets) for name, calls in bodies.items()]
    graph = helper.make_graph(
        [*nodes(["a"], "z"), helper.make_node("Flatten", ["z"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, ["n", 4])],
        [onnx.numpy_helper.from_array(np.ones((192, 4), np.float32), "w")],
    )
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, functions=made, ir_version=8).SerializeToString())
    return path


def test_functions_are_written_out(tmp_path: Path) -> None:
    path = functions(tmp_path / "functions.onnx", {"a": ["b", "Relu"], "b": ["Sigmoid", "Tanh"]})
    parity = importers.parity(importers.load(path), torch.rand(3, 3, 8, 8))
    assert parity is not None
    assert parity.rms < 1e-4


@pytest.mark.parametrize(("domain", "name"), [("", "Relu"), ("com.microsoft", "Gelu")])
def test_a_function_in_place_of_an_operator(tmp_path: Path, domain: str, name: str) -> None:
    """Another network than the one that runs: runtimes keep to their own operator."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = graph()
    body = [helper.make_node("Sub", ["x", "x"], ["y"])]
    model.functions.append(helper.make_function(domain, name, ["x"], ["y"], body, opsets[:1]))
    before_head(model, helper.make_node(name, ["features"], ["shadowed"], domain=domain))
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    onnx.save(model, tmp_path / "shadow.onnx")
    refused(tmp_path / "shadow.onnx", f"the function '{name}' takes the name of an operator|not a valid")


def test_functions_that_grow_beyond_memory(tmp_path: Path) -> None:
    names = "abcdefghijkl"
    bodies = {name: [following] * 10 for name, following in itertools.pairwise(names)} | {"l": ["Relu"]}
    refused(functions(tmp_path / "bomb.onnx", bodies), "damaged or hostile|not a valid")


def test_function_that_calls_itself(tmp_path: Path) -> None:
    refused(functions(tmp_path / "self.onnx", {"a": ["b"], "b": ["a"]}), "calls itself|not a valid")


@pytest.mark.parametrize("seed", range(20))
def test_damage_anywhere_is_one_sentence(tmp_path: Path, model_file: Path, seed: int) -> None:
    """A byte changed at random: read or refused, nothing else."""
    rng = np.random.default_rng(seed)
    data = bytearray(model_file.read_bytes())
    for _ in range(3):
        data[rng.integers(len(data))] = rng.integers(256)
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    told = f"{path}: one sentence"
    try:
        importers.load(path)
    except ModelError as error:
        told = str(error)
    assert "\n" not in told
    assert path.name in told


@pytest.mark.parametrize(("classes", "match"), [(40_000, "40,000 classes; expected .* at most 32,768"), (0, "no classes")])
def test_absurd_classes(classes: int, match: str, tmp_path: Path) -> None:
    """Answers to all images are held at once."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    refused(write(tmp_path / "many.onnx", nodes, {"w": np.ones((3, classes))}, ["n", 3, 8, 8], ["n", classes]), match)


BROKEN = {
    "an operator without outputs": [helper.make_node("Add", ["x", "w"], [], domain="com.evil")],
    "a transpose of axes that are not there": [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 9, 9, 9])],
    "a convolution without weights": [helper.make_node("FusedConv", ["x"], ["t"], domain="com.microsoft")],
    "one in blocks without weights": [helper.make_node("Conv", ["x"], ["t"], domain="com.microsoft.nchwc")],
    "one in blocks without its channels": [helper.make_node("ReorderOutput", ["x"], ["t"], domain="com.microsoft.nchwc")],
    "one in blocks without its scales": [helper.make_node("Upsample", ["x"], ["t"], domain="com.microsoft.nchwc")],
}


@pytest.mark.parametrize("nodes", BROKEN.values(), ids=BROKEN.keys())
def test_operators_that_lack_a_part(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    last = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
    ports = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", ["n", 3, 8, 8]), ("y", ["n", 4]))]
    weights = [onnx.numpy_helper.from_array(np.ones((192, 4), np.float32), "w")]
    made = helper.make_graph([*nodes, *last], "g", ports[:1], ports[1:], weights)
    opsets = [helper.make_opsetid(d, v) for d, v in (("", 13), ("com.evil", 1), ("com.microsoft", 1), ("com.microsoft.nchwc", 1))]
    path = tmp_path / "broken.onnx"
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    with suppress(ModelError):  # what no runtime reaches may be left out
        importers.load(path)


@pytest.mark.parametrize(("kind", "axes"), [(onnx.TensorProto.BOOL, 70), (99, 0)])
def test_further_inputs_that_cannot_be_filled(kind: int, axes: int, tmp_path: Path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Dropout", ["f", "rate"], ["d"])]
    nodes.append(helper.make_node("Gemm", ["d", "w"], ["y"]))
    path = write(tmp_path / "rate.onnx", nodes, {"w": np.ones((192, 4))}, ["n", 3, 8, 8], ["n", 4])
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("rate", 1, [1] * axes))
    model.graph.input[-1].type.tensor_type.elem_type = kind
    path.write_bytes(model.SerializeToString())
    refused(path, "expected|valid")
