"""An ONNX file as a graph that onnxruntime runs, one image at a time, with any of its tensors shown or set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from banscan.importers.onnx import bfloat16, file, inputs, outputs, runtime
from banscan.importers.onnx.inputs import Images
from banscan.importers.onnx.nodes import needed, read_by
from banscan.importers.structure import branches
from banscan.importers.structure.flow import Flow, attributes, flow
from banscan.importers.structure.settle import set_free


@dataclass(frozen=True)
class Graph:
    """A model with the input that takes the images and the tensor that holds the scores."""

    model: onnx.ModelProto
    images: Images
    output: str

    def flow(self) -> Flow:
        return flow(needed(self.model, self.output), self.images.name, self.output)

    def constants(self) -> dict[str, np.ndarray]:
        """Its small constants, by name."""
        known = {t.name: t for t in self.model.graph.initializer}
        for node in self.model.graph.node:
            if node.op_type == "Constant" and isinstance(value := attributes(node).get("value"), onnx.TensorProto):
                known[node.output[0]] = value
        return {name: onnx.numpy_helper.to_array(t) for name, t in known.items() if np.prod(t.dims, dtype=float) <= 1 << 16}


def opened(path: Path, logits: str | None) -> Graph:
    """Reads a file; branches that it decides itself are written out.

    Raises:
        ModelError: it is damaged or refused, or has no single input for images.
    """
    model = file.inline(path, file.read(path))
    file.mended(path, model)
    branches.written_out(model, branches.constants(model).get)
    output = outputs.find(path, model, logits)
    return Graph(model, inputs.find(path, model, read_by(model, output.tensor)), output.tensor)


def runnable(graph: Graph) -> Graph:
    """A copy that onnxruntime takes."""
    model = onnx.ModelProto.FromString(graph.model.SerializeToString())
    _show(model, [graph.output])
    bfloat16.widen(model)
    return Graph(runtime.runnable(model, graph.output), graph.images, graph.output)


def copied(graph: Graph) -> Graph:
    return Graph(onnx.ModelProto.FromString(graph.model.SerializeToString()), graph.images, graph.output)


def _show(model: onnx.ModelProto, tensors: Sequence[str]) -> None:
    """Makes these tensors the outputs."""
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(tensors))


class Session:
    """Answers of a graph for single images: what each of `shown` holds. `given` are tensors that are set, with an example of each."""

    def __init__(self, graph: Graph, shown: Sequence[str], given: dict[str, np.ndarray] | None = None, extra: Sequence[Any] = ()) -> None:
        onnxruntime, options = runtime.loaded()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        model = copied(graph).model
        for name, example in (given or {}).items():
            set_free(model, name)
            kind = helper.np_dtype_to_tensor_dtype(example.dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, kind, None))
        model.graph.node.extend(extra)
        self.shown = list(dict.fromkeys(shown))
        _show(model, self.shown)
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in needed(model, *self.shown)]
        del model.graph.node[:]
        model.graph.node.extend(kept)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        entries = self.session.get_inputs()
        self.entry = next(e for e in entries if e.name == graph.images.name)
        self.batch = graph.images.batch or 1
        self.others = [e for e in entries if e is not self.entry and e.name not in (given or {})]

    def ask(self, image: np.ndarray, given: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """For one image [1, ...] in the layout of the graph's own `images.spec`."""
        part = runtime.placed(self.entry, np.repeat(image, self.batch, 0))
        part = part[0] if len(self.entry.shape) == 3 and part.ndim == 4 else part
        feeds = {e.name: runtime.nothing(e, self.batch) for e in self.others} | {self.entry.name: part}
        return dict(zip(self.shown, self.session.run(self.shown, feeds | (given or {})), strict=True))

    def answers(self, images: np.ndarray, given: dict[str, np.ndarray] | None = None) -> Iterator[dict[str, np.ndarray]]:
        for i in range(len(images)):
            yield self.ask(images[i : i + 1], given)
