"""Images that a quantised graph takes as integers: what they stand for, written out before the graph is rewritten in float."""

import onnx
from onnx import TensorProto, helper

from banscan.importers.onnx.inputs import INTEGERS

# pixels stay what they are
MOVING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def real(model: onnx.ModelProto) -> None:
    """Puts (pixel - zero) * scale in front of quantised operators that read pixels, in place."""
    weights = {t.name for t in model.graph.initializer}
    pixels = {i.name for i in model.graph.input if i.name not in weights and i.type.tensor_type.elem_type in INTEGERS}
    if not pixels:
        return
    nodes = []
    for node in model.graph.node:
        first = node.input[0] if node.input else ""
        if first in pixels and node.op_type in MOVING:
            pixels.add(node.output[0])
        if first in pixels and (node.op_type == "DequantizeLinear" or node.op_type.startswith("QLinear")):
            nodes += _scaled(node)
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _scaled(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes in front of a quantised one, whose input becomes their result."""
    name, (pixels, scale, *rest) = node.output[0], node.input
    zero = rest[0] if rest else ""
    made = [helper.make_node("Cast", [pixels], [f"{name}_pixels"], to=TensorProto.FLOAT)]
    if zero:
        made.append(helper.make_node("Cast", [zero], [f"{name}_zero"], to=TensorProto.FLOAT))
        made.append(helper.make_node("Sub", [f"{name}_pixels", f"{name}_zero"], [f"{name}_centred"]))
    made.append(helper.make_node("Mul", [made[-1].output[0], scale], [f"{name}_real"]))
    node.input[0] = f"{name}_real"
    return made
