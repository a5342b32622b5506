"""Changes to an ONNX graph, from which forms are made."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def value(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A weight's values."""
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def put(model: onnx.ModelProto, **values: object) -> None:
    """Adds constants; one that is there already gets the new values."""
    for name, given in values.items():
        for old in [t for t in model.graph.initializer if t.name == name]:
            model.graph.initializer.remove(old)
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(given).reshape(np.shape(given)), name))


def drop(model: onnx.ModelProto, name: str) -> np.ndarray:
    """Takes a weight out; its values."""
    taken = value(model, name)
    model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == name))
    return taken


def declare(model: onnx.ModelProto, side: str, *entries: tuple[str, int, Sequence[str | int | None]]) -> None:
    """Replaces the declared inputs or outputs by (name, type, sizes)."""
    field = getattr(model.graph, side)
    del field[:]
    field.extend(helper.make_tensor_value_info(name, kind, list(sizes)) for name, kind, sizes in entries)


def rename(model: onnx.ModelProto, old: str, new: str, *, read: bool = True, written: bool = True) -> None:
    """Another name for a tensor, where nodes read it, write it, or both."""
    for step in model.graph.node:
        for names in ([step.input] if read else []) + ([step.output] if written else []):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


def tail(
    model: onnx.ModelProto, *nodes: onnx.NodeProto, sizes: Sequence[str | int | None] = ("batch", 7), kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """Puts nodes behind the logits, which are called "raw" then; the last one's output is the model's."""
    rename(model, "logits", "raw")
    model.graph.node.extend(nodes)
    declare(model, "output", (nodes[-1].output[0], kind, sizes))
    return model


def front(
    model: onnx.ModelProto, *nodes: onnx.NodeProto, sizes: Sequence[str | int | None], kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """Puts nodes between the input "image" and the stem; the last one's output has to be "image_"."""
    rename(model, "image", "image_", written=False)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    declare(model, "input", ("image", kind, sizes))
    return model


def before_head(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Puts nodes between the features and the head; the last one's first output takes the place of "features" in the head."""
    head = model.graph.node[-1]
    head.input[0] = nodes[-1].output[0]
    model.graph.node.pop()
    model.graph.node.extend([*nodes, head])
    return model
