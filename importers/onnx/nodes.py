"""Nodes of an ONNX graph: which are needed, what they read, their attributes and constants as plain values."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from banscan.errors import ModelError

LISTS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS)


def read_by(model: onnx.ModelProto, output: str) -> set[str]:
    """The tensors that are read for an output, itself included."""
    nodes = list(nested(needed(model, output)))
    return {i for node in nodes for i in node.input} | {o.name for node in nodes for a in node.attribute for o in a.g.output} | {output}


def nested(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes with those of their branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from nested(attribute.g.node)


def array_of(tensor: onnx.TensorProto, name: str) -> np.ndarray:
    try:
        array: np.ndarray = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"the weight {name!r} has other values than its shape and type say; the file is damaged") from error
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def constant_of(label: str, attributes: dict[str, Any]) -> np.ndarray:
    key, value = next(iter(attributes.items()), ("nothing", None))
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if len(attributes) != 1 or (key != "value" and key not in kinds):
        raise ModelError(f"operator Constant ({label}): it holds {' and '.join(attributes) or key}; expected numbers")
    return np.asarray(value) if key == "value" else np.array(value, kinds[key])


def attribute_of(attribute: onnx.AttributeProto, node: onnx.NodeProto) -> Any:
    """The value of an attribute: a number, a text, a list or an array."""
    if attribute.type == onnx.AttributeProto.TENSOR:
        return array_of(attribute.t, f"{node.op_type}.{attribute.name}")
    try:
        value = onnx.helper.get_attribute_value(attribute)
    except ValueError as error:
        raise ModelError(f"operator {node.op_type} ({node.name}): the attribute {attribute.name} is of no known type") from error
    if attribute.type in LISTS:
        return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def needed(model: onnx.ModelProto, *outputs: str) -> list[onnx.NodeProto]:
    """The nodes that outputs are computed from, in order."""
    needed, kept = set(outputs), []
    for node in reversed(model.graph.node):
        if any(o in needed for o in node.output if o):
            kept.append(node)
            needed.update(i for inner in nested([node]) for i in inner.input if i)
            needed.update(o.name for a in node.attribute for o in a.g.output)
    return kept[::-1]
