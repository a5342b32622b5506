"""Files that two readers would read differently are refused, with the reason."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from banscan import importers
from tests.importers.equivalent.network import graph
from tests.importers.equivalent.surgery import node, put
from tests.importers.test_load import refused

Change = Callable[[onnx.ModelProto], None]


def two_fields(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].float_data.extend(numpy_helper.to_array(model.graph.initializer[0]).ravel())


def two_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(7, np.float32), "head.bias"))


def a_sparse_one(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "head.bias")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0]), "places"), [7]))


def a_tensor_made_twice(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, node("Relu", ["image"], ["features"]))


def a_weight_that_is_made(model: onnx.ModelProto) -> None:
    put(model, features=np.zeros((1, 12), np.float32))


def an_input_that_is_made(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 12]))


def two_attributes(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [2, 2]))


def an_attribute_of_two_values(model: onnx.ModelProto) -> None:
    next(a for a in model.graph.node[-1].attribute if a.name == "transB").ints.append(0)


def a_default_of_another_size(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("head.bias", TensorProto.FLOAT, [8]))


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(model.graph.input[0])


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


def two_opsets(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 13))


def two_functions(model: onnx.ModelProto) -> None:
    body = [node("Identity", ["x"], ["y"])]
    for _ in range(2):
        model.functions.append(helper.make_function("own", "f", ["x"], ["y"], body, [helper.make_opsetid("", 17)]))


def two_places(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for place in ("weights.bin", "other.bin"):
        tensor.external_data.add(key="location", value=place)


def a_branch_that_shadows(model: onnx.ModelProto) -> None:
    put(model, yes=np.array(True))
    own = helper.make_tensor_value_info("features", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("Identity", ["pooled"], ["features"])], "b", [], [own])
    model.graph.node.append(helper.make_node("If", ["yes"], ["other"], then_branch=branch, else_branch=branch))


CHANGES: dict[Change, str] = {
    two_fields: "in two readings",
    two_weights: "the weight 'head.bias' is there twice",
    a_sparse_one: "the weight 'head.bias' is there twice",
    a_tensor_made_twice: "the tensor 'features' is made twice",
    a_weight_that_is_made: "the tensor 'features' is made twice",
    an_input_that_is_made: "the tensor 'features' is made twice",
    two_attributes: "'strides' is there twice",
    an_attribute_of_two_values: "has the values i and ints",
    a_default_of_another_size: "of another type or size",
    two_inputs: "the input 'image' is there twice",
    two_outputs: "the output 'logits' is there twice",
    two_opsets: "in the versions 13 and 17",
    two_functions: "the function 'own.f' is there twice",
    two_places: "'location' is there twice",
    a_branch_that_shadows: "has the name of another around its branch",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_refused(tmp_path: Path, change: Change) -> None:
    model = graph()
    change(model)
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").write_bytes(b"\0" * 10_000)
    refused(tmp_path / "two.onnx", CHANGES[change])


def test_a_graph_in_two_parts(tmp_path: Path) -> None:
    """protobuf puts them together; a reader that takes the last one sees another network."""
    model = graph()
    second = onnx.ModelProto()
    second.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "unused"))
    path = tmp_path / "parts.onnx"
    path.write_bytes(model.SerializeToString() + second.SerializeToString())
    refused(path, "'graph' is there twice")


def test_weights_that_are_inputs_as_well_are_read(tmp_path: Path) -> None:
    """As in files of ir_version 3."""
    model = graph()
    for weight in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims)))
    onnx.save(model, tmp_path / "old.onnx")
    assert importers.load(tmp_path / "old.onnx").classes == 7
