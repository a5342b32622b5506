"""Files of opset 6 and older, in a form that onnxruntime has operators for."""

import onnx
import onnx.shape_inference
import onnx.version_converter
from onnx import helper

NEWER = 8


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in a newer opset; what is spread along an axis by an attribute gets its axes by a node.

    Sizes have to be known for that, so that one image stands for a free batch meanwhile.
    """
    weights = {t.name for t in model.graph.initializer}
    images = [v for v in model.graph.input if v.name not in weights and len(v.type.tensor_type.shape.dim)]
    free = {v.name for v in images if v.type.tensor_type.shape.dim[0].dim_value <= 0}
    _first(model, free, 1)
    _forget(model)
    _spread(model, {v.name: len(v.type.tensor_type.shape.dim) for v in _shaped(model)})
    model = onnx.version_converter.convert_version(model, NEWER)
    _first(model, free, "batch")
    _forget(model)
    return model


def _first(model: onnx.ModelProto, names: set[str], size: int | str) -> None:
    """Sets the first size of these inputs."""
    for value in model.graph.input:
        if value.name in names:
            dim = value.type.tensor_type.shape.dim[0]
            dim.Clear()
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = size


def _forget(model: onnx.ModelProto) -> None:
    """Takes away the shapes of all that is computed."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _shaped(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    constants = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in graph.initializer]
    return [*graph.value_info, *graph.input, *constants]


def _spread(model: onnx.ModelProto, ranks: dict[str, int]) -> None:
    """Axes for the second operand of arithmetic, in front of the node that has an attribute for it."""
    nodes = []
    for node in model.graph.node:
        axis = next((a.i for a in node.attribute if a.name == "axis"), None)
        if axis is not None and any(a.name == "broadcast" and a.i for a in node.attribute):
            first, second = (ranks.get(name, 0) for name in node.input)
            behind = first - axis % max(1, first) - second
            if behind > 0:
                name = f"{node.output[0]}_spread"
                nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [name], axes=list(range(second, second + behind))))
                node.input[1] = name
        kept = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in node.attribute if a.name not in ("axis", "broadcast")]
        if any(a.name == "broadcast" for a in node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
