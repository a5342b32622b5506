"""A row made into a graph, and run: by banscan's interpreter, traced, and by onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from banscan.importers.model import Input
from banscan.importers.normal.trace import export
from banscan.importers.onnx.inputs import Images
from banscan.importers.onnx.interpreter import Interpreter
from tests.importers.onnx.operators.rows import TYPES, Row


def graph(row: Row, *, constant: bool = False) -> onnx.ModelProto:
    """Pixels "x" → the operator → "y", float32, with casts around an operator on integers. With `constant` the operator gets its
    values as a constant, and x [N, 1] is added to the flat result."""
    given, nodes = ("c" if constant else "x"), []
    if row.kind != "float32":
        nodes.append(helper.make_node("Cast", [given], ["given"], to=TYPES[row.kind]))
        given = "given"
    names = [f"r{i}" if value is not None else "" for i, value in enumerate(row.rest)]
    names.insert(row.place, given)
    last = "f" if constant else "y"
    plain = row.opset < 6 and not row.domain  # there, results are floats
    outputs = [f"other{i}" if i != row.output else last if plain else "result" for i in range(row.outputs)]
    nodes.append(helper.make_node(row.op, names, outputs, "node", domain=row.domain, **row.attributes))
    if not plain:
        nodes.append(helper.make_node("Cast", ["result"], [last], to=1))
    if constant:
        nodes += [helper.make_node("Reshape", ["f", "flat"], ["g"]), helper.make_node("Add", ["x", "g"], ["y"])]
    values = {f"r{i}": value for i, value in enumerate(row.rest) if value is not None}
    if constant:
        values |= {"c": row.x, "flat": np.array([1, -1], np.int64)}
    sizes = ["n", 1] if constant else ["n", *row.x.shape[1:]]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    opsets = [helper.make_opsetid("", 13 if row.domain else row.opset)]
    opsets += [helper.make_opsetid(row.domain, row.opset)] if row.domain else []
    return helper.make_model(helper.make_graph(nodes, "row", [x], [y], tensors), opset_imports=opsets, ir_version=8)


def runtime(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """onnxruntime's answer, as it computes without rewriting the graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(None, {"x": x})[0]
    return answer


def interpreter(model: onnx.ModelProto, x: np.ndarray) -> Interpreter:
    sizes = [*x.shape[1:], 1, 1, 1][:3]
    return Interpreter(model, Images("x", Input("x", "NCHW", *sizes), None), "y", None)


@torch.no_grad()
def ours(model: onnx.ModelProto, x: np.ndarray, *, traced: bool = False) -> np.ndarray:
    """banscan's answer."""
    module: torch.nn.Module = interpreter(model, x)
    if traced:
        module = export(Path("row.onnx"), module, torch.zeros(2, *x.shape[1:]) if len(x) != 2 else torch.from_numpy(x))
    answer: np.ndarray = module(torch.from_numpy(x)).numpy()
    return answer
