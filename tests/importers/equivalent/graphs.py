"""Forms that differ within the graph: constants, names, order, opsets, onnxruntime's optimiser, operators that change nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.importers.equivalent.form import Form, onnx_form
from tests.importers.equivalent.network import CLASSES, FEATURES, SIZE, graph
from tests.importers.equivalent.surgery import before_head, declare, drop, front, node, put, value

Change = Callable[[onnx.ModelProto], onnx.ModelProto | None]
MAP = ("batch", 3, SIZE, SIZE)


def sparse(m: onnx.ModelProto, *, coordinates: bool) -> onnx.SparseTensorProto:
    weight = drop(m, "head.weight")
    places = np.argwhere(weight) if coordinates else np.flatnonzero(weight)
    made = onnx.SparseTensorProto(dims=weight.shape)
    made.values.CopyFrom(numpy_helper.from_array(weight[weight != 0], "head.weight"))
    made.indices.CopyFrom(numpy_helper.from_array(places.astype(np.int64), "head.weight_places"))
    return made


def sparse_initializer(*, coordinates: bool) -> Change:
    def change(m: onnx.ModelProto) -> None:
        m.graph.sparse_initializer.append(sparse(m, coordinates=coordinates))

    return change


def sparse_constant(m: onnx.ModelProto) -> None:
    made = node("Constant", [], ["head.weight"])
    made.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse(m, coordinates=False))
    m.graph.node.insert(0, made)


def reordered(m: onnx.ModelProto) -> None:
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in m.graph.node][::-1]
    del m.graph.node[:]
    m.graph.node.extend(copies)


def constants(m: onnx.ModelProto) -> None:
    made = [node("Constant", [], [t.name], value=t) for t in m.graph.initializer]
    del m.graph.initializer[:]
    for n in reversed(made):
        m.graph.node.insert(0, n)


def names(*, of_nodes: str | None = None, of_weights: Callable[[int], str] | None = None) -> Change:
    def change(m: onnx.ModelProto) -> None:
        new = {t.name: of_weights(i) for i, t in enumerate(m.graph.initializer)} if of_weights else {}
        for t in m.graph.initializer:
            t.name = new.get(t.name, t.name)
        for n in m.graph.node:
            n.name = n.name if of_nodes is None else of_nodes
            for i, name in enumerate(n.input):
                n.input[i] = new.get(name, name)

    return change


def unnamed(m: onnx.ModelProto) -> None:
    m.graph.name = ""


def optimised(level: str) -> Form:
    """As onnxruntime writes it down."""

    def write(path: Path) -> Path:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
        path = path.with_suffix(".onnx")
        options.optimized_model_filepath, options.log_severity_level = str(path), 4
        onnxruntime.InferenceSession(graph().SerializeToString(), options, providers=["CPUExecutionProvider"])
        return path

    return Form(write=write)


def old(opset: int) -> Change:
    """Weights as inputs, a bias added along an axis."""

    def change(m: onnx.ModelProto) -> None:
        m.ir_version, m.opset_import[0].version = 3, opset
        stem = m.graph.node[0]
        bias = stem.input.pop()
        stem.output[0] = "stem_"
        m.graph.node.insert(1, node("Add", ["stem_", bias], ["stem"], axis=1, broadcast=1))
        m.graph.node[-1].attribute.append(helper.make_attribute("broadcast", 1))
        m.graph.input.extend(helper.make_tensor_value_info(t.name, TensorProto.FLOAT, list(t.dims)) for t in m.graph.initializer)

    return change


def within(*nodes: onnx.NodeProto, opset: int | None = None, **given: Any) -> Change:
    """Nodes between the features and the head that change nothing."""

    def change(m: onnx.ModelProto) -> None:
        put(m, **given)
        before_head(m, *nodes)
        if opset is not None:
            m.opset_import[0].version = opset

    return change


def chosen(condition: bool) -> Change:
    def change(m: onnx.ModelProto) -> None:
        put(m, c=np.array(condition))
        branches = []
        for op, out in (("Identity", "kept"), ("Neg", "turned")):
            output = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
            branches.append(helper.make_graph([node(op, ["features"], [out])], op, [], [output]))
        first, second = branches if condition else branches[::-1]
        before_head(m, node("If", ["c"], ["i"], then_branch=first, else_branch=second))

    return change


def sampled(m: onnx.ModelProto) -> None:
    """A spatial transformer that leaves the image where it is."""
    places = np.linspace(-1, 1, SIZE, dtype=np.float32)
    put(m, grid0=np.stack(np.meshgrid(places, places), -1)[None], one=[1], zero=[0], rest=[SIZE, SIZE, 2])
    front(
        m,
        node("Shape", ["image"], ["s"]),
        node("Slice", ["s", "zero", "one"], ["n"]),
        node("Concat", ["n", "rest"], ["to"], axis=0),
        node("Expand", ["grid0", "to"], ["grid"]),
        node("GridSample", ["image", "grid"], ["image_"], align_corners=1),
        sizes=MAP,
    )


def same_padding(m: onnx.ModelProto) -> None:
    """Padding computed from the shape, as TensorFlow's "same" is exported: the stem's own pads of 1."""
    m.graph.node[0].attribute.remove(next(a for a in m.graph.node[0].attribute if a.name == "pads"))
    put(m, two=np.int64(2), one=np.int64(1), three=np.int64(3), zero=np.int64(0), none=[0, 0], axis=[0], factor=np.float32(1))
    front(
        m,
        node("Shape", ["image"], ["s"]),
        node("Gather", ["s", "two"], ["h"], axis=0),
        node("Cast", ["h"], ["hf"], to=TensorProto.FLOAT),
        node("Div", ["hf", "factor"], ["q"]),
        node("Ceil", ["q"], ["c"]),
        node("Cast", ["c"], ["out"], to=TensorProto.INT64),
        node("Sub", ["out", "one"], ["steps"]),
        node("Add", ["steps", "three"], ["need"]),
        node("Sub", ["need", "h"], ["short"]),
        node("Max", ["short", "zero"], ["pad"]),
        node("Div", ["pad", "two"], ["low"]),
        node("Sub", ["pad", "low"], ["high"]),
        node("Unsqueeze", ["low", "axis"], ["l"]),
        node("Unsqueeze", ["high", "axis"], ["g"]),
        node("Concat", ["none", "l", "l", "none", "g", "g"], ["pads"], axis=0),
        node("Pad", ["image", "pads"], ["image_"]),
        sizes=MAP,
    )


def float_padding(m: onnx.ModelProto) -> None:
    """The same in floats and for all four axes, the batch's among them, as MATLAB exports it."""
    m.graph.node[0].attribute.remove(next(a for a in m.graph.node[0].attribute if a.name == "pads"))
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    put(m, stride=np.ones(4, np.float32), filter=np.float32([1, 1, 3, 3]), one=one, none=none, two=2 * one, parts=[2, 1, 1], fill=none[0])
    front(
        m,
        node("Shape", ["image"], ["si"]),
        node("Cast", ["si"], ["s"], to=TensorProto.FLOAT),
        node("Div", ["s", "stride"], ["q"]),
        node("Ceil", ["q"], ["out"]),
        node("Sub", ["out", "one"], ["steps"]),
        node("Mul", ["steps", "stride"], ["reach"]),
        node("Add", ["reach", "filter"], ["need"]),
        node("Sub", ["need", "s"], ["short"]),
        node("Relu", ["short"], ["pad"]),
        node("Split", ["pad", "parts"], ["rest", "h", "w"], axis=0),
        *(node("Div", [side, "two"], [f"{side}_half"]) for side in "hw"),
        *(node(op, [f"{side}_half"], [f"{side}_{op}"]) for side in "hw" for op in ("Floor", "Ceil")),
        node("Concat", ["none", "none", "h_Floor", "w_Floor", "none", "none", "h_Ceil", "w_Ceil"], ["amounts"], axis=0),
        node("Cast", ["amounts"], ["pads"], to=TensorProto.INT64),
        node("Pad", ["image", "pads", "fill"], ["image_"], mode="constant"),
        sizes=MAP,
    )


def strided(m: onnx.ModelProto) -> None:
    """A view of memory as PyTorch exports it: places among all values of the one image, here backwards; their shape is a sequence."""
    one = np.ones(1, np.float32)
    put(
        m,
        all=[-1],
        one=one,
        count=FEATURES * one,
        begin=np.int64(FEATURES - 1),
        end=np.int64(-1),
        back=np.int64(-1),
        front=[0],
        row=[1, FEATURES],
    )
    declare(m, "input", ("image", TensorProto.FLOAT, (1, *MAP[1:])))
    declare(m, "output", ("logits", TensorProto.FLOAT, (1, CLASSES)))
    before_head(
        m,
        node("SequenceEmpty", [], ["empty"]),
        node("SequenceInsert", ["empty", "one"], ["single"]),
        node("SequenceInsert", ["single", "one"], ["pair"]),
        node("ConcatFromSequence", ["pair"], ["ones"], axis=0),
        node("Concat", ["count", "ones"], ["sizes"], axis=0),
        node("Cast", ["sizes"], ["shape"], to=TensorProto.INT64),
        node("Range", ["begin", "end", "back"], ["order"]),
        node("Reshape", ["order", "shape"], ["column"]),
        node("Unsqueeze", ["column", "front"], ["places"]),
        node("Reshape", ["features", "all"], ["flat"]),
        node("Gather", ["flat", "places"], ["map_"], axis=0),
        node("Reshape", ["map_", "all"], ["again"]),
        node("Gather", ["again", "order"], ["values"], axis=0),
        node("Reshape", ["values", "row"], ["last"]),
    )


def unused(m: onnx.ModelProto) -> None:
    """A loop that nothing needs, of more rounds than any machine runs."""
    put(m, rounds=np.int64(10**15), true=np.array(True), x0=np.float32(0))
    count, going, carried = (helper.make_tensor_value_info(n, k, []) for n, k in (("i", 7), ("c", 9), ("v", 1)))
    on, after = (helper.make_tensor_value_info(n, k, []) for n, k in (("on", 9), ("w", 1)))
    body = helper.make_graph([node("Identity", ["c"], ["on"]), node("Neg", ["v"], ["w"])], "body", [count, going, carried], [on, after])
    m.graph.node.insert(0, node("Loop", ["rounds", "true", "x0"], ["nothing"], body=body))


def as_function(m: onnx.ModelProto) -> None:
    """The last ReLU in a function of the file's own."""
    relu = next(n for n in m.graph.node if n.name == "relu_2")
    relu.op_type, relu.domain = "Mine", "own"
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    m.functions.append(helper.make_function("own", "Mine", ["x"], ["y"], [node("Relu", ["x"], ["y"])], opsets))
    m.opset_import.append(opsets[1])


def unfused(m: onnx.ModelProto) -> None:
    """Gemm as MatMul and Add."""
    head = m.graph.node[-1]
    put(m, **{"head.weight": np.ascontiguousarray(value(m, "head.weight").T)})
    weight, bias = head.input[1], head.input[2]
    m.graph.node.pop()
    m.graph.node.extend([node("MatMul", ["features", weight], ["product"]), node("Add", ["product", bias], ["logits"])])


ONES = np.ones(FEATURES, np.float32)
PYTHON = ("forward", "known", "steps", "training", "attributes", "_parameters", "weights", "images", "small", "read")

FORMS: dict[str, Form] = {
    "sparse": onnx_form(sparse_initializer(coordinates=False)),
    "sparse by coordinates": onnx_form(sparse_initializer(coordinates=True)),
    "sparse constant": onnx_form(sparse_constant),
    "out of order": onnx_form(reordered),
    "constants as nodes": onnx_form(constants),
    "nodes of one name": onnx_form(names(of_nodes="same")),
    "nodes without names": onnx_form(names(of_nodes="")),
    "names of other scripts": onnx_form(names(of_weights=lambda i: f"层/{i}:weight β")),
    "names of Python": onnx_form(names(of_weights=lambda i: PYTHON[i])),
    "names with dots": onnx_form(names(of_weights=lambda i: f"..{i}//")),
    "a graph without a name": onnx_form(unnamed),
    **{f"optimised, {level}": optimised(level) for level in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")},
    "opset 6": onnx_form(old(6)),
    **{f"opset {n}": onnx_form(lambda m, n=n: setattr(m.opset_import[0], "version", n)) for n in (9, 11, 13, 19, 21, 22, 23)},  # type: ignore[misc]
    "matrix product": onnx_form(unfused),
    "a function": onnx_form(as_function),
    "a loop without use": onnx_form(unused),
    "If, true": onnx_form(chosen(True)),
    "If, false": onnx_form(chosen(False)),
    "grid sampling": onnx_form(sampled),
    "same padding from the shape": onnx_form(same_padding),
    "same padding in floats": onnx_form(float_padding),
    "places in memory": onnx_form(strided),
    "Dropout with a mask": onnx_form(within(node("Dropout", ["features"], ["d", "mask"]))),
    "CastLike": onnx_form(within(node("CastLike", ["features", "head.bias"], ["c"]))),
    "Identity": onnx_form(within(node("Identity", ["features"], ["i"]))),
    "Cast and back": onnx_form(
        within(node("Cast", ["features"], ["c"], to=TensorProto.DOUBLE), node("Cast", ["c"], ["d"], to=TensorProto.FLOAT))
    ),
    "Where": onnx_form(within(node("Where", ["c", "features", "zero"], ["w"]), c=np.array([True]), zero=np.float32(0))),
    "Concat and Split": onnx_form(
        within(
            node("Concat", ["features", "features"], ["c"], axis=1),
            node("Split", ["c"], ["s", "t"], axis=1),
            node("Max", ["s", "t"], ["m"]),
        )
    ),
    "GatherND": onnx_form(
        within(
            node("Transpose", ["features"], ["t"], perm=[1, 0]),
            node("GatherND", ["t", "places"], ["g"]),
            node("Transpose", ["g"], ["u"], perm=[1, 0]),
            places=np.arange(FEATURES).reshape(-1, 1),
        )
    ),
    "Einsum": onnx_form(within(node("Einsum", ["features"], ["e"], equation="bc->bc"))),
    "sequence": onnx_form(
        within(node("SplitToSequence", ["features", "half"], ["s"], axis=1), node("ConcatFromSequence", ["s"], ["c"], axis=1), half=[6, 6])
    ),
    "an empty sequence": onnx_form(
        within(
            node("SequenceEmpty", [], ["e"]),
            node("SequenceInsert", ["e", "features"], ["s"]),
            node("SequenceAt", ["s", "zero"], ["at"]),
            zero=np.int64(0),
        )
    ),
    "batch norm of ones": onnx_form(
        within(
            node("BatchNormalization", ["features", "scale", "shift", "mean", "var"], ["n"], epsilon=0.0, momentum=0.5),
            scale=ONES,
            shift=0 * ONES,
            mean=0 * ONES,
            var=ONES,
        ),
        layers=6,
        features=False,
    ),
    "scattered": onnx_form(
        within(
            node("ScatterElements", ["features", "none", "nothing"], ["s"], axis=1),
            none=np.zeros((1, 0), np.int64),
            nothing=np.zeros((1, 0), np.float32),
        ),
        runtime=False,
    ),
    "padded and cut": onnx_form(
        within(node("Pad", ["features", "more"], ["p"]), node("Pad", ["p", "less"], ["q"]), more=[0, 2, 0, 3], less=[0, -2, 0, -3])
    ),
}
