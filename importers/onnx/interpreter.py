"""An ONNX graph, run node by node with torch calls."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from banscan.errors import ModelError
from banscan.importers.onnx.operators import OPERATORS, Call

LISTS = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)
Step = tuple[Call, list[str], list[str]]
WEIGHTED = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"}
)


class Interpreter(nn.Module):
    """Runs an ONNX graph with torch calls. Floating-point constants become frozen float32 parameters, integers stay in numpy.

    Nothing of the parsed file is kept, so that whoever read it can let it go.
    """

    def __init__(self, model: onnx.ModelProto, image: str, output: str, batch: int | None, *, flat: bool = False) -> None:
        super().__init__()
        self.image, self.output, self.flat = image, output, flat
        self.known: dict[str, Any] = {}
        self.attributes: dict[str, str] = {}
        self.batch = batch
        versions = {o.domain: o.version for o in model.opset_import}
        self.version = versions.get("", versions.get("ai.onnx", 1))
        nodes = _needed(model, output)
        everywhere = list(_nested(nodes))
        # factors of sizes are arithmetic on shapes, although they are no integers; a weight of one value is a weight all the same
        self.factors = {i for node in everywhere if node.op_type in ("Resize", "Upsample") for i in node.input[1:] if i}
        self.weights = {i for node in everywhere if node.op_type in WEIGHTED for i in node.input[1:] if i}
        self._load(model.graph.initializer, {name for node in everywhere for name in node.input}, {})
        self.calls = self._calls(nodes, {})

    def _load(self, initializers: Sequence[onnx.TensorProto], read: set[str], renamed: dict[str, str]) -> None:
        for initializer in initializers:
            if initializer.name not in read:
                continue
            try:
                self._keep(renamed.get(initializer.name, initializer.name), onnx.numpy_helper.to_array(initializer))
            except ValueError as error:
                raise ModelError(f"the weight {initializer.name!r} has fewer values than its shape; the file is damaged") from error

    def _calls(self, nodes: Sequence[onnx.NodeProto], renamed: dict[str, str]) -> list[Step]:
        """The steps of a graph, with the names that a branch shares with another made its own."""
        calls: list[Step] = []
        for node in nodes:
            inputs, outputs_ = ([renamed.get(name, name) for name in names] for names in (node.input, node.output))
            branches = {a.name: a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH}
            attributes = {a.name: _attribute(a) for a in node.attribute if a.name not in branches}
            if node.op_type == "Constant":
                key, value = next(iter(attributes.items()))
                kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32}
                self._keep(outputs_[0], value if key == "value" else np.array(value, kinds.get(key, np.int64)))
                continue
            name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
            if name not in OPERATORS or (branches and name != "If"):
                raise ModelError(f"operator {name} ({node.name or node.output[0]}) is not supported")
            attributes |= {key: self._branch(f"{outputs_[0]}/{key}/", branch, renamed) for key, branch in branches.items()}
            constant = tuple(i in self.known or i in self.attributes for i in inputs)
            used = len([o for o in node.output if o])
            call = Call(name, node.name or node.output[0], attributes, self.version, used, constant, self.batch)
            calls.append((call, inputs, outputs_))
        return calls

    def _branch(self, prefix: str, graph_: onnx.GraphProto, renamed: dict[str, str]) -> tuple[list[Step], list[str]]:
        own = [o for node in graph_.node for o in node.output if o] + [t.name for t in graph_.initializer]
        renamed = renamed | {name: prefix + name for name in own}
        self._load(graph_.initializer, set(own), renamed)
        return self._calls(graph_.node, renamed), [renamed.get(o.name, o.name) for o in graph_.output]

    def _keep(self, name: str, array: np.ndarray) -> None:
        array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        number = name not in self.weights and (array.size <= 1 or name in self.factors)
        if array.dtype.kind in "iub" or (array.dtype.kind == "f" and number):
            # scalars stay numbers; anything but an integer is computed in float32
            self.known[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        elif array.dtype.kind == "f":
            self.attributes[name] = f"constant_{len(self.attributes)}"
            self.register_parameter(self.attributes[name], nn.Parameter(torch.from_numpy(array.astype(np.float32)), requires_grad=False))
        else:
            raise ModelError(f"the constant {name!r} has type {array.dtype}; expected numbers")

    def _value(self, name: str, values: dict[str, Any]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        return getattr(self, self.attributes[name]) if name in self.attributes else self.known[name]

    def forward(self, image: Tensor) -> Tensor:
        values: dict[str, Any] = {self.image: image.flatten(1) if self.flat else image}
        self._run(self.calls, values)
        final: Tensor = values[self.output]
        return final

    def _run(self, calls: list[Step], values: dict[str, Any]) -> None:
        for call, inputs, names in calls:
            given = [self._value(i, values) for i in inputs]
            if call.op == "If":
                # a condition on shapes is known here, and only the branch that it leads to becomes part of the graph
                steps, ends = call.attributes["then_branch" if OPERATORS["If"](call, *given) else "else_branch"]
                self._run(steps, values)
                results = tuple(self._value(end, values) for end in ends)
            else:
                result = OPERATORS[call.op](call, *given)
                results = result if isinstance(result, tuple) else (result,)
            values.update((name, r) for name, r in zip(names, results, strict=False) if name)


def _nested(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes with those of their branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _nested(attribute.g.node)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    """The value of an attribute: a number, a text, a list or an array."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(value)
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    return value.decode() if isinstance(value, bytes) else list(value) if attribute.type in LISTS else value


def _needed(model: onnx.ModelProto, output: str) -> list[onnx.NodeProto]:
    """The nodes that an output is computed from, in order."""
    needed, kept = {output}, []
    for node in reversed(model.graph.node):
        if any(o in needed for o in node.output if o):
            kept.append(node)
            needed.update(i for inner in _nested([node]) for i in inner.input if i)
            needed.update(o.name for a in node.attribute for o in a.g.output)
    return kept[::-1]
