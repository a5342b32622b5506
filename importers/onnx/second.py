"""An ONNX graph by onnx2torch, for files that our own interpreter does not read, or does not read right."""

import itertools
import sys
import types
import warnings
from importlib import metadata
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor, fx, nn

from banscan.errors import ModelError
from banscan.importers.model import attribute_named
from banscan.importers.onnx.inputs import Images
from banscan.importers.onnx.known import Held
from banscan.importers.onnx.lacking import DETECTION, SECOND, installed
from banscan.importers.onnx.nodes import array_of, attribute_of, constant_of, needed


class Second(nn.Module):
    """A graph as onnx2torch makes it, of one output, called as our interpreter is. Weights are frozen and float32.

    onnx2torch gets a copy in which every name is one of ours, since it writes names into Python code.

    Raises:
        ModelError: onnx2torch is not installed, or does not read the graph.
    """

    def __init__(self, model: onnx.ModelProto, images: Images, output: str) -> None:
        super().__init__()
        if not installed():
            raise ModelError(f"{SECOND}, a second reader, is not installed (pip install 'banscan[{SECOND}]')")
        if images.single or images.whole:
            raise ModelError(f"{SECOND} is asked for batches of images of floats only")
        self.images = images
        copy, self.weights = _copied(model, images, output)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what parity will show
                graph = _convert()(copy)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(f"{SECOND} does not read it ({reason})") from error
        self.network = _held(graph.eval().requires_grad_(False))

    def forward(self, image: Tensor, alpha: Tensor | None = None) -> Tensor:
        """Logits of images in the layout of their `spec`; `alpha` for a fourth channel that is not read."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer: Tensor = self.network(self.images.placed(image, alpha))
        return answer


def version() -> str:
    """The second reader with its version."""
    return f"{SECOND} {metadata.version(SECOND)}"


def named(graph: fx.GraphModule, weights: dict[str, np.ndarray]) -> dict[str, str]:
    """Gives the constants of a traced graph plain names, in place; which of them are which of the file's `weights`, by their values.

    A weight that is there twice, in the file or in the graph, is none that could be written back.
    """
    constants: dict[str, Tensor] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            value = attribute_named(graph, str(node.target))
            node.target = next((n for n, v in constants.items() if v is value), f"constant_{len(constants)}")
            constants[node.target] = value
    for name, value in constants.items():
        graph.register_buffer(name, value.detach())
    graph.recompile()
    graph.delete_all_unused_submodules()
    pairs = [
        (constant, name)
        for constant, value in constants.items()
        for name, array in weights.items()
        if tuple(value.shape) == array.shape and value.is_floating_point() and np.array_equal(value.detach().numpy(), array)
    ]
    once = [{key for key in side if side.count(key) == 1} for side in zip(*pairs, strict=True)] if pairs else [set(), set()]
    return {constant: name for constant, name in pairs if constant in once[0] and name in once[1]}


def _convert() -> Any:
    """onnx2torch's function. It imports torchvision for two operators of detectors; they are refused, and so torchvision is not needed."""
    places = ("torchvision", "torchvision.ops")
    stand_ins = {name: types.ModuleType(name) for name in places if places[0] not in sys.modules}
    for stand_in in stand_ins.values():
        vars(stand_in)["roi_align"] = None
    sys.modules.update(stand_ins)
    try:
        from onnx2torch import convert
    finally:
        for name in stand_ins:
            del sys.modules[name]
    return convert


def _copied(model: onnx.ModelProto, images: Images, output: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """What the output needs, under other names; and the floats among its constants by their own names."""
    names: dict[str, str] = {"": ""}
    counter = itertools.count()

    def called(name: str) -> str:
        return names.setdefault(name, f"t{next(counter)}")

    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    steps = needed(model, output)
    read = {i for node in steps for i in node.input} | {output}
    constants = {t.name: array_of(t, t.name) for t in model.graph.initializer if t.name in read} | images.others
    nodes: list[onnx.NodeProto] = []
    shapes: dict[str, np.ndarray] = {}
    for node in steps:
        if node.domain not in ("", "ai.onnx") or node.op_type in DETECTION or any(a.type == a.GRAPH for a in node.attribute):
            own = f"{node.domain}::" if node.domain else ""
            raise ModelError(f"{SECOND} does not read the operator {own}{node.op_type} ({node.name or node.output[0]})")
        if node.op_type == "Constant":
            constants[node.output[0]] = constant_of(node.name, {a.name: attribute_of(a, node) for a in node.attribute})
            continue
        if node.op_type == "Dropout" and np.any(constants.get(node.input[2], True) if len(node.input) > 2 and node.input[2] else False):
            raise ModelError(f"{SECOND} does not read Dropout in training mode ({node.name or node.output[0]})")
        inputs = [*node.input[:1]] if node.op_type == "Dropout" else [*node.input]
        outputs = [*node.output]
        while len(outputs) > _least(node.op_type, opset) and outputs[-1] not in read:  # onnx2torch takes the first of a single tensor
            outputs.pop()
        given = [called(i) for i in inputs]
        if node.op_type == "Reshape" and _fixed(constants.get(inputs[-1]), images.batch):
            given[-1] = f"r{len(nodes)}"
            shapes[given[-1]] = np.array([0, *constants[inputs[-1]][1:]])  # as many images as there are
        made = helper.make_node(node.op_type, given, [called(o) for o in outputs], f"n{len(nodes)}")
        made.attribute.extend(node.attribute)
        nodes.append(made)
    nodes.append(helper.make_node("Identity", [called(output)], ["answer"], "answer"))
    other = next((value.dtype for value in constants.values() if value.dtype.kind == "f" and value.dtype != np.float32), None)
    if other is not None:
        raise ModelError(f"{SECOND} is asked for graphs of float32 only, not of {other}")
    sizes = images.placed(images.spec.example()).shape[1:]
    arrays = {called(name): value for name, value in constants.items()} | shapes
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(called(images.name), onnx.TensorProto.FLOAT, ["batch", *sizes])],
        [helper.make_tensor_value_info("answer", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name) for name, value in arrays.items()],
    )
    copy = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return copy, {name: value for name, value in constants.items() if value.dtype == np.float32}


def _fixed(shape: np.ndarray | None, batch: int | None) -> bool:
    """Whether a shape begins with the number of images that the file fixes."""
    return shape is not None and batch is not None and shape.ndim == 1 and shape.size > 1 and bool(shape[0] == batch)


def _least(operator: str, opset: int) -> int:
    """How many outputs an operator has at least."""
    try:
        return int(onnx.defs.get_schema(operator, opset).min_output)
    except onnx.defs.SchemaError:
        return 1


def _held(module: fx.GraphModule) -> fx.GraphModule:
    """The graph with its integers, and floats for sizes, known while it is traced."""
    for node in list(module.graph.nodes):
        if node.op != "get_attr":
            continue
        value = attribute_named(module, str(node.target))
        sizes = all(user.op == "call_module" and "Resize" in type(module.get_submodule(str(user.target))).__name__ for user in node.users)
        if not value.is_floating_point() or sizes:
            name = f"held_{node.name}"
            module.add_module(name, Held(value))
            with module.graph.inserting_before(node):
                held = module.graph.call_module(name)
            node.replace_all_uses_with(held)
            module.graph.erase_node(node)
    module.recompile()
    return module
