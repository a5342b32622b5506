"""Graphs that onnxruntime optimised for one machine, in ONNX's own operators again.

There, channels lie in blocks of 8 or 16, as wide as the machine's vectors: weights [O / b, I / b, height, width, b of I, b of O], or
[O / b, I, height, width, b of O] where a convolution reads plain images or has one channel for each group.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from banscan.errors import ModelError

DOMAIN = "com.microsoft.nchwc"
# how many inputs an operator has at least, and an attribute that it has; others have one input and need no attribute
NEEDED = {"Conv": (2, None), "ReorderOutput": (1, "channels"), "Upsample": (1, "scales")}
SAME = frozenset({"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Upsample"})


def plain(path: Path, model: onnx.ModelProto) -> set[str]:
    """Rewrites such a graph in place; the names of the weights that the file holds in another order.

    Raises:
        ModelError: a node that is not one of a convolutional network.
    """
    nodes = [n for n in model.graph.node if n.domain == DOMAIN]
    if not nodes:
        return set()
    for node in nodes:
        _check(path, node)
    weights = {t.name: t for t in model.graph.initializer}
    block = _block(nodes, weights)
    made: dict[str, np.ndarray] = {}
    result = []
    for node in model.graph.node:
        result += _rewritten(path, node, weights, block, made) if node.domain == DOMAIN else [node]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in result]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())
    return set(made)


def _check(path: Path, node: onnx.NodeProto) -> None:
    """Raises ModelError for a node without what every one of its kind has."""
    inputs, attribute = NEEDED.get(node.op_type, (1, None))
    if len(node.input) < inputs or not node.output or (attribute is not None and attribute not in {a.name for a in node.attribute}):
        raise ModelError(f"{path}: {node.op_type} of {DOMAIN} without all of its parts; the file is damaged")


def _block(nodes: list[onnx.NodeProto], weights: dict[str, onnx.TensorProto]) -> int:
    """As wide as the numbers of channels allow; where they allow both, as on this machine, whose runtime the comparison is with."""
    counts = [weights[n.input[1]].dims[0] for n in nodes if n.op_type == "Conv" and n.input[1] in weights]
    if any(count % 16 for count in counts):
        return 8
    # onnxruntime has blocks of 16 for AVX-512 and for ARM
    return 8 if torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT") and not _arm() else 16


def _arm() -> bool:
    import platform

    return platform.machine().lower() in ("arm64", "aarch64")


def _rewritten(
    path: Path, node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], block: int, made: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    inputs, output, name = list(node.input), node.output[0], node.name or node.output[0]
    if node.op_type == "ReorderInput":
        perm = [0, 3, 1, 2] if attributes.get("channels_last") else [0, 1, 2, 3]
        return [helper.make_node("Transpose", inputs, [output], name, perm=perm)]
    if node.op_type == "ReorderOutput":
        for key, value in (("start", 0), ("end", attributes["channels"]), ("axis", 1)):
            made[f"{output}_{key}"] = np.array([value], np.int64)
        perm = [0, 2, 3, 1] if attributes.get("channels_last") else [0, 1, 2, 3]
        cut = helper.make_node("Slice", [inputs[0], *(f"{output}_{k}" for k in ("start", "end", "axis"))], [f"{output}_cut"], name)
        return [cut, helper.make_node("Transpose", [f"{output}_cut"], [output], f"{name}_order", perm=perm)]
    if node.op_type in SAME:
        renamed = {"transformation_mode": "coordinate_transformation_mode"} if node.op_type == "Upsample" else {}
        kept = {renamed.get(key, key): value for key, value in attributes.items()}
        if node.op_type == "Upsample":
            made[f"{output}_scales"] = np.array(kept.pop("scales"), np.float32)
            return [helper.make_node("Resize", [inputs[0], "", f"{output}_scales"], [output], name, **kept)]
        return [helper.make_node(node.op_type, inputs, [output], name, **kept)]
    if node.op_type != "Conv" or inputs[1] not in weights:
        raise ModelError(
            f"{path}: optimised by onnxruntime for one machine ({node.op_type} of {DOMAIN}); give the file before this optimisation"
        )
    made[f"{inputs[1]}_plain"] = _weight(numpy_helper.to_array(weights[inputs[1]]), attributes.get("group", 1), block)
    inputs[1] = f"{inputs[1]}_plain"
    return [helper.make_node("FusedConv", inputs, [output], name, domain="com.microsoft", **attributes)]


def _weight(value: np.ndarray, group: int, block: int) -> np.ndarray:
    """A weight [O, I, height, width] of which the values lie in blocks."""
    out, into, *kernel = value.shape
    if into % block == 0 and group == 1:
        blocks = value.reshape(out // block, into // block, *kernel, block, block).transpose(0, 5, 1, 4, 2, 3)
    else:
        blocks = value.reshape(out // block, into, *kernel, block).transpose(0, 4, 1, 2, 3)
    return np.ascontiguousarray(blocks.reshape(value.shape))
