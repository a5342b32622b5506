"""An ATen graph in ONNX's names of operators, as far as its flow needs them."""

from typing import cast

import onnx
from onnx import helper
from torch import fx

from banscan.importers.model import output_node
from banscan.importers.structure.flow import Flow, flow

# ATen's names of what `flow` and `suspects` know
NAMES = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), "Conv"),
    **dict.fromkeys(("linear", "addmm", "baddbmm"), "Gemm"),
    **dict.fromkeys(("mm", "bmm", "matmul"), "MatMul"),
    **dict.fromkeys(("sym_size", "size", "sym_numel"), "Shape"),
    **dict.fromkeys(("logical_and", "bitwise_and", "__and__"), "And"),
    **dict.fromkeys(("logical_or", "bitwise_or", "__or__", "any"), "Or"),
    **dict.fromkeys(("logical_not", "bitwise_not"), "Not"),
    **dict.fromkeys(("remainder", "fmod"), "Mod"),
    **dict.fromkeys(("eq", "ne"), "Equal"),
    "argmax": "ArgMax",
    "ceil": "Ceil",
    "einsum": "Einsum",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "isinf": "IsInf",
    "isnan": "IsNaN",
    "le": "LessOrEqual",
    "lt": "Less",
    "nonzero": "NonZero",
    "one_hot": "OneHot",
    "round": "Round",
    "sign": "Sign",
    "topk": "TopK",
    "where": "Where",
}


def flow_of(module: fx.GraphModule) -> Flow:
    """How pixels flow through a traced graph."""
    nodes = [_node(n) for n in module.graph.nodes if n.op == "call_function"]
    image = next(n.name for n in module.graph.nodes if n.op == "placeholder")
    end = output_node(module.graph).args[0]
    end = end[0] if isinstance(end, list | tuple) else end
    return flow(nodes, image, cast(fx.Node, end).name)


def _node(node: fx.Node) -> onnx.NodeProto:
    plain = str(node.target).removeprefix("aten.").partition(".")[0]
    return helper.make_node(NAMES.get(plain, plain), [i.name for i in node.all_input_nodes], [node.name], node.name)
