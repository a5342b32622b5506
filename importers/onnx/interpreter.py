"""An ONNX graph, run node by node with torch calls."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from banscan.errors import BanscanError, ModelError
from banscan.importers.normal.trace import FixedBatchError
from banscan.importers.onnx.inputs import Images
from banscan.importers.onnx.lacking import lacking
from banscan.importers.onnx.nodes import array_of, attribute_of, constant_of, needed, nested, read_by
from banscan.importers.onnx.operators import OPERATORS, Call
from banscan.importers.onnx.operators.batches import alone, taken_off
from banscan.importers.onnx.operators.registry import compute

# by onnxruntime's names too
WEIGHTED = frozenset(
    [
        "Attention",
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "GRU",
        "Gemm",
        "GroupNormalization",
        "InstanceNormalization",
        "LSTM",
        "LayerNormalization",
        "MatMul",
        "RNN",
    ]
)
QUANTISED = frozenset(f"{domain}{op}" for domain in ("", "com.microsoft::") for op in ("QuantizeLinear", "DequantizeLinear"))
# what is asked of integers, and answered by something else than integers of the same kind
ANSWERS = frozenset({"Shape", "Size", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "ArgMax", "ArgMin"} | QUANTISED)
# nodes run, those of loops every time: more than any classifier has
MOST_STEPS = 200_000
FEW = 16


@dataclass(frozen=True)
class Graph:
    """The steps of a graph, or of a branch or loop within it, under names of their own, and what goes in and comes out."""

    steps: list[tuple[Call, list[str], list[str]]]
    inputs: list[str]
    outputs: list[str]


class Interpreter(nn.Module):
    """Runs an ONNX graph with torch calls. Floating-point constants become frozen float32 parameters, integers stay in numpy.

    Nothing of the parsed file is kept, so that whoever read it can let it go.
    """

    def __init__(self, model: onnx.ModelProto, images: Images, output: str, batch: int | None) -> None:
        super().__init__()
        self.images, self.output, self.batch = images, output, batch
        self.known: dict[str, Any] = dict(images.others)
        self.attributes: dict[str, str] = {}
        self.small: dict[str, np.ndarray] = {}  # floats that may turn out to belong to arithmetic on shapes
        # constants that were made for the fixed batch, which the file holds in another shape
        self.reduced: set[str] = set()
        self.counter = itertools.count()  # of inner graphs
        self.versions = {o.domain: o.version for o in model.opset_import}
        nodes = needed(model, output)
        everywhere = list(nested(nodes))
        self.read = read_by(model, output)
        # factors of sizes are arithmetic on shapes, although they are no integers; a weight of one value is a weight all the same
        self.factors = {i for node in everywhere if node.op_type in ("Resize", "Upsample") for i in node.input[1:] if i}
        self.weights = {i for node in everywhere if node.op_type in WEIGHTED for i in node.input[1:] if i}
        self._load(model.graph.initializer, self.read, {})
        self.steps = self._steps(nodes, {})

    def _load(self, initializers: Sequence[onnx.TensorProto], read: set[str], renamed: dict[str, str]) -> None:
        for initializer in initializers:
            if initializer.name in read:
                self._keep(renamed.get(initializer.name, initializer.name), array_of(initializer, initializer.name))

    def _steps(self, nodes: Sequence[onnx.NodeProto], renamed: dict[str, str]) -> list[tuple[Call, list[str], list[str]]]:
        """The steps of a graph, with the names that a branch shares with another made its own."""
        steps = []
        for node in nodes:
            inputs = [renamed.get(name, name) for name in node.input]
            outputs = [renamed.get(name, name) if name in self.read else "" for name in node.output]
            graphs = {a.name: a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH}
            attributes = {a.name: attribute_of(a, node) for a in node.attribute if a.name not in graphs}
            label = node.name or next((o for o in node.output if o), node.op_type)
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                self._keep(outputs[0], constant_of(label, attributes))
                continue
            own = "" if node.domain in ("", "ai.onnx") else node.domain
            attributes |= {key: self._graph(f"{label}/{next(self.counter)}/{key}/", inner, renamed) for key, inner in graphs.items()}
            call = Call(
                op=f"{own}::{node.op_type}" if own else node.op_type,
                name=label,
                attributes=attributes,
                version=self.versions.get(own, self.versions.get("ai.onnx", 1) if not own else 1),
                outputs=max((i + 1 for i, name in enumerate(outputs) if name), default=1),
                constant=tuple(i in self.known or i in self.attributes for i in inputs),
                batch=self.batch,
                declared=len(node.output),
            )
            steps.append((call, inputs, outputs))
        return steps

    def _graph(self, prefix: str, graph: onnx.GraphProto, renamed: dict[str, str]) -> Graph:
        own = [o for node in graph.node for o in node.output if o] + [t.name for t in graph.initializer] + [i.name for i in graph.input]
        renamed = renamed | {name: prefix + name for name in own}
        self._load(graph.initializer, set(own), renamed)
        inputs, outputs = ([renamed.get(v.name, v.name) for v in values] for values in (graph.input, graph.output))
        return Graph(self._steps(graph.node, renamed), inputs, outputs)

    def _keep(self, name: str, array: np.ndarray) -> None:
        if array.dtype.kind == "V" or array.dtype.name == "bfloat16":  # types that numpy has not: bfloat16, 8 bits and less
            array = array.astype(np.int32 if "int" in array.dtype.name else np.float32)
        number = name not in self.weights and (array.size <= 1 or name in self.factors)
        batch = self.batch or 1
        if batch > 1 and name not in self.weights and array.ndim > 1 and len(array) == batch and bool((array == array[:1]).all()):
            array = array[:1]
            self.reduced.add(name)
        if array.dtype.kind in "iub" or (array.dtype.kind == "f" and number):
            # scalars stay numbers; anything but an integer is computed in float32
            self.known[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        elif array.dtype.kind == "f":
            self.attributes[name] = f"constant_{len(self.attributes)}"
            if array.size <= FEW and name not in self.weights:
                self.small[name] = array.astype(np.float32)
            self.register_parameter(self.attributes[name], nn.Parameter(torch.from_numpy(array.astype(np.float32)), requires_grad=False))
        else:
            raise ModelError(f"the constant {name!r} has type {array.dtype}; expected numbers")

    def _value(self, name: str, values: dict[str, Any]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        return getattr(self, self.attributes[name]) if name in self.attributes else self.known[name]

    def forward(self, image: Tensor, alpha: Tensor | None = None) -> Tensor:
        """Logits of images in the layout of their `spec`; `alpha` for a fourth channel that is not read."""
        fed = self.images.placed(image, alpha)
        run = _Run(self, {self.images.name: fed}, image.shape[0], {self.images.name} if self.images.whole else set())
        if self.images.single:
            run.alone.add(self.images.name)
        run.steps(self.steps)
        final: Tensor = self._value(self.output, run.values)
        if not isinstance(final, Tensor):
            raise ModelError(f"the output {self.output!r} does not depend on the image; expected an image classifier")
        return final


class _Run:
    """One pass: the values so far, which of them are integers held as floats, and which are images without their batch axis."""

    def __init__(self, interpreter: Interpreter, values: dict[str, Any], images: Any, whole: set[str]) -> None:
        self.interpreter, self.values, self.images, self.whole = interpreter, values, images, whole
        self.alone: set[str] = set()
        # computed from pixels
        self.moved = {interpreter.images.name}
        self.count = 0

    def value(self, name: str) -> Any:
        try:
            return self.interpreter._value(name, self.values)
        except KeyError:
            raise ModelError(f"nothing computes {name!r}; the file is damaged") from None

    def steps(self, steps: list[tuple[Call, list[str], list[str]]]) -> None:
        for call, inputs, names in steps:
            self.count += 1
            if self.count > MOST_STEPS:
                raise call.unsupported(f"a graph of more than {MOST_STEPS:,} steps")
            try:
                results = self.step(call, inputs, names)
            except BanscanError:
                raise
            except Exception as error:
                reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
                raise ModelError(f"operator {call.op} ({call.name}): {reason}") from error
            self.values.update((name, r) for name, r in zip(names, results, strict=False) if name)
            if isinstance(self.images, torch.SymInt) and self.images.node.maybe_as_int() is not None:
                raise FixedBatchError(
                    f"operator {call.op} ({call.name}) takes a fixed number of images only; export it with a dynamic batch axis"
                )

    def step(self, call: Call, inputs: list[str], names: list[str]) -> tuple[Any, ...]:
        if call.op not in OPERATORS:
            raise lacking(call.op, f"operator {call.op} ({call.name}) is not supported")
        given = [self.value(i) for i in inputs]
        if any(isinstance(v, np.ndarray) and i in self.values for i, v in zip(inputs, given, strict=True)):
            # a constant that a size is multiplied with is arithmetic on shapes, too
            given = [self.interpreter.small.get(i, v) for i, v in zip(inputs, given, strict=True)] if self.about_shapes(inputs) else given
        if call.op in ("If", "Loop"):
            self.moved.update(names)  # not followed inside
        if call.op == "If":
            # a condition on shapes is known here, and only the branch that it leads to becomes part of the graph
            return self.inner(call.attributes["then_branch" if OPERATORS["If"](call, *given) else "else_branch"], [])
        if call.op == "Loop":
            return tuple(OPERATORS["Loop"](call, self.inner, *given))
        pixels = any(i in self.moved and isinstance(v, Tensor | list) for i, v in zip(inputs, given, strict=True))
        if pixels:
            self.moved.update(names)
        else:
            call = replace(call, pixels=False)
        whole = any(i in self.whole for i in inputs)
        changed = whole and not (call.op in ANSWERS or _floats(call, given))
        if whole or call.batch is not None:
            call = replace(call, whole=whole, images=self.images)
        off = taken_off(call, given)
        still = off is not None
        if any(i in self.alone for i in inputs):
            if still:
                raise call.unsupported("taking away the batch axis twice")
            call, given, still = alone(call, given)
        results = (given[0].squeeze(off) if off else given[0],) if off is not None else compute(call, given)
        self.whole.update(names if changed else ())
        if still:
            self.alone.update(names)
        return results

    def about_shapes(self, inputs: list[str]) -> bool:
        """Whether all inputs are known, or constants of a few values."""
        return all(i in self.interpreter.small or not isinstance(self.value(i), Tensor) for i in inputs)

    def inner(self, graph: Graph, given: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs of a branch, or of one round of a loop."""
        self.values.update(zip(graph.inputs, given, strict=True))
        self.steps(graph.steps)
        return tuple(self.value(o) for o in graph.outputs)


def _floats(call: Call, given: list[Any]) -> bool:
    """Whether a node makes floats of its input."""
    if call.op == "CastLike":
        like = given[1]
        return like.is_floating_point() if isinstance(like, Tensor) else bool(like.dtype.kind == "f")
    kind = call.get("to") if call.op == "Cast" else onnx.TensorProto.INT64
    number = onnx.TensorProto.DataType.Value(kind) if isinstance(kind, str) else kind
    return bool(onnx.helper.tensor_dtype_to_np_dtype(number).kind not in "iu")
