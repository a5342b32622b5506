"""Forms that differ behind the logits."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto
from torch import Tensor, nn

from tests.importers.equivalent.form import Form, onnx_form, torch_form
from tests.importers.equivalent.network import network
from tests.importers.equivalent.surgery import declare, drop, node, put, rename, tail

SOFT = ("Softmax",)
N, C = "batch", 7


def behind(
    *steps: tuple[object, ...],
    sizes: Sequence[str | int | None] = (N, C),
    kind: int = TensorProto.FLOAT,
    constants: dict[str, object] | None = None,
    opset: int | None = None,
    **how: object,
) -> Form:
    """A form with these operators behind the logits: (name, inputs, attributes); each reads the one before as "_"."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        nodes, last = [], "raw"
        for i, (op, inputs, *rest) in enumerate(steps):
            names = [f"s{i - 1}" if name == "_" and i else last if name == "_" else name for name in inputs]  # type: ignore[attr-defined]
            nodes.append(node(str(op), names, [f"s{i}"], **(rest[0] if rest else {})))  # type: ignore[arg-type]
        put(model, **(constants or {}))
        if opset is not None:
            model.opset_import[0].version = opset
        return tail(model, *nodes, sizes=sizes, kind=kind)

    return onnx_form(change, **how)


SOFTMAX = ("Softmax", ["_"], {"axis": 1})
ARGMAX = ("ArgMax", ["_"], {"axis": 1, "keepdims": 0})


def cast(kind: int) -> tuple[object, ...]:
    return ("Cast", ["_"], {"to": kind})


def conv_head(model: onnx.ModelProto) -> None:
    """Logits [N, 7, 1, 1]."""
    put(model, **{"head.kernel": drop(model, "head.weight")[:, :, None, None]})
    del model.graph.node[-2:]
    model.graph.node.append(node("Conv", ["pooled", "head.kernel", "head.bias"], ["logits"]))


def four_axes(*nodes: onnx.NodeProto, sizes: Sequence[str | int | None], constants: dict[str, object] | None = None, **how: object) -> Form:
    def change(model: onnx.ModelProto) -> onnx.ModelProto | None:
        conv_head(model)
        put(model, **(constants or {}))
        if nodes:
            return tail(model, *nodes, sizes=sizes)
        return declare(model, "output", ("logits", TensorProto.FLOAT, sizes))

    return onnx_form(change, **how)


def several(*outputs: tuple[str, int, Sequence[str | int | None]], nodes: Sequence[onnx.NodeProto] = (), **how: object) -> Form:
    """Several outputs; the logits are called "raw" inside."""

    def change(model: onnx.ModelProto) -> None:
        rename(model, "logits", "raw")
        model.graph.node.extend(nodes)
        put(model, k=np.array([3], np.int64), one=np.array([1], np.int64))
        declare(model, "output", *outputs)

    return onnx_form(change, **how)


PROBABILITIES = node("Softmax", ["raw"], ["p"], axis=1)
LABEL = node("ArgMax", ["raw"], ["label"], axis=1, keepdims=0)
TOP = node("TopK", ["p", "k"], ["values", "places"], axis=1)
F, WHOLE = TensorProto.FLOAT, TensorProto.INT64


def aux(model: onnx.ModelProto) -> None:
    """A second classifier on the map of an earlier layer, for training."""
    rng = np.random.default_rng(0)
    put(model, **{"aux.weight": rng.normal(size=(C, 12)).astype(np.float32), "aux.bias": np.zeros(C, np.float32)})
    model.graph.node.extend(
        [
            node("GlobalAveragePool", ["b"], ["aux_pooled"]),
            node("Flatten", ["aux_pooled"], ["aux_flat"], axis=1),
            node("Gemm", ["aux_flat", "aux.weight", "aux.bias"], ["aux_logits"], transB=1),
        ]
    )
    declare(model, "output", ("aux_logits", F, [N, C]), ("logits", F, [N, C]))


class Behind(nn.Module):
    """The network with a function behind it, for TorchScript and torch.export."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.function = network(), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.network(x))


def written(function: Callable[[Tensor], Tensor], suffix: str, **how: object) -> Form:
    return torch_form(lambda: Behind(function), suffix, **how)


WRITTEN_OUT = (
    ("ReduceMax", ["raw"], {"axes": [1], "keepdims": 1}),
    ("Sub", ["raw", "_"]),
    ("Exp", ["_"]),
)
FORMS: dict[str, Form] = {
    "plain": onnx_form(lambda m: None, stripped=()),
    "softmax": behind(SOFTMAX, stripped=SOFT),
    "softmax on the last axis": behind(("Softmax", ["_"], {"axis": -1}), stripped=SOFT),
    "softmax of opset 11": behind(SOFTMAX, opset=11, stripped=SOFT),
    "softmax of a softmax": behind(SOFTMAX, SOFTMAX, stripped=(*SOFT, *SOFT)),
    "softmax of percent": behind(SOFTMAX, ("Mul", ["_", "hundred"]), constants={"hundred": np.float32(100)}, stripped=SOFT),
    "softmax divided": behind(SOFTMAX, ("Div", ["_", "part"]), constants={"part": np.array([0.01], np.float32)}, stripped=SOFT),
    "softmax to double": behind(SOFTMAX, cast(TensorProto.DOUBLE), kind=TensorProto.DOUBLE, stripped=SOFT),
    "softmax to half": behind(SOFTMAX, cast(TensorProto.FLOAT16), kind=TensorProto.FLOAT16, stripped=SOFT, exact=1e-3),
    "softmax in double": behind(cast(TensorProto.DOUBLE), SOFTMAX, cast(TensorProto.FLOAT), stripped=SOFT),
    "softmax clipped": behind(
        SOFTMAX, ("Clip", ["_", "low", "high"]), constants={"low": np.float32(1e-7), "high": np.float32(1 - 1e-7)}, stripped=("Clip", *SOFT)
    ),
    "softmax clipped to 0 and 1": behind(
        SOFTMAX, ("Clip", ["_", "low", "high"]), constants={"low": np.float32(0), "high": np.float32(1)}, stripped=("Clip", *SOFT)
    ),
    "softmax clipped by Max and Min": behind(
        SOFTMAX, ("Max", ["_", "low"]), ("Min", ["_", "high"]), constants={"low": np.float32(1e-6), "high": np.float32(0.999999)}
    ),
    "softmax reshaped": behind(SOFTMAX, ("Reshape", ["_", "to"]), constants={"to": np.array([-1, C], np.int64)}, stripped=SOFT),
    "softmax flattened": behind(SOFTMAX, ("Flatten", ["_"], {"axis": 1}), stripped=SOFT),
    "softmax as it is": behind(SOFTMAX, ("Identity", ["_"]), ("Identity", ["_"]), stripped=SOFT),
    "softmax rounded to percent": behind(
        SOFTMAX,
        ("Mul", ["_", "hundred"]),
        ("Round", ["_"]),
        ("Div", ["_", "hundred"]),
        constants={"hundred": np.float32(100)},
        stripped=("Round", *SOFT),
        exact=2e-2,
    ),
    "softmax as uint8": behind(
        SOFTMAX,
        ("Mul", ["_", "most"]),
        cast(TensorProto.UINT8),
        constants={"most": np.float32(255)},
        kind=TensorProto.UINT8,
        stripped=SOFT,
    ),
    "softmax with a row for the images of one": behind(
        ("Unsqueeze", ["_", "axis"]), ("Softmax", ["_"], {"axis": -1}), constants={"axis": np.array([0], np.int64)}, sizes=[1, N, C]
    ),
    "softmax of the columns": behind(
        ("Transpose", ["_"], {"perm": [1, 0]}), ("Softmax", ["_"], {"axis": 0}), ("Transpose", ["_"], {"perm": [1, 0]}), stripped=SOFT
    ),
    "probabilities in columns": behind(
        ("Transpose", ["_"], {"perm": [1, 0]}), ("Softmax", ["_"], {"axis": 0}), sizes=[C, N], stripped=SOFT
    ),
    "softmax with Q and DQ": behind(
        SOFTMAX,
        ("QuantizeLinear", ["_", "step", "zero"]),
        ("DequantizeLinear", ["_", "step", "zero"]),
        constants={"step": np.array(1 / 255, np.float32), "zero": np.array(0, np.uint8)},
        stripped=("Round", "Clip", *SOFT),
    ),
    "softmax quantised": behind(
        SOFTMAX,
        ("QuantizeLinear", ["_", "step", "zero"]),
        constants={"step": np.array(1 / 255, np.float32), "zero": np.array(0, np.uint8)},
        kind=TensorProto.UINT8,
        stripped=("Round", "Clip", *SOFT),
    ),
    "temperature": behind(
        ("Div", ["_", "warm"]), SOFTMAX, ("Log", ["_"]), ("Mul", ["_", "warm"]), constants={"warm": np.float32(1)}, stripped=("Log", *SOFT)
    ),
    "log of softmax": behind(SOFTMAX, ("Log", ["_"]), stripped=("Log", *SOFT)),
    "log of softmax and a little": behind(
        SOFTMAX, ("Add", ["_", "little"]), ("Log", ["_"]), constants={"little": np.float32(1e-9)}, stripped=("Log", *SOFT)
    ),
    "negative log-likelihood of none": behind(("LogSoftmax", ["_"], {"axis": 1}), ("Neg", ["_"]), ("Neg", ["_"]), stripped=("LogSoftmax",)),
    "log-softmax": behind(("LogSoftmax", ["_"], {"axis": -1}), stripped=("LogSoftmax",)),
    "exp of log-softmax": behind(("LogSoftmax", ["_"], {"axis": 1}), ("Exp", ["_"]), stripped=("Exp", "LogSoftmax")),
    "sigmoid of each": behind(("Sigmoid", ["_"]), stripped=("Sigmoid",)),
    "sigmoid written out": behind(
        ("Neg", ["_"]),
        ("Exp", ["_"]),
        ("Add", ["_", "one"]),
        ("Div", ["one", "_"]),
        constants={"one": np.float32(1)},
        stripped=("Sigmoid",),
    ),
    "sigmoid by Reciprocal": behind(
        ("Neg", ["_"]), ("Exp", ["_"]), ("Add", ["one", "_"]), ("Reciprocal", ["_"]), constants={"one": np.ones(1, np.float32)}
    ),
    "sigmoid by Tanh": behind(
        ("Mul", ["_", "half"]),
        ("Tanh", ["_"]),
        ("Mul", ["_", "half"]),
        ("Add", ["_", "half"]),
        constants={"half": np.float32(0.5)},
        shifted=False,
        exact=0.6,
    ),
    "written out": behind(
        *WRITTEN_OUT,
        ("ReduceSum", ["s2", "axis"], {"keepdims": 1}),
        ("Div", ["s2", "_"]),
        constants={"axis": np.array([1], np.int64)},
        stripped=SOFT,
    ),
    "written out without the largest": behind(
        ("Exp", ["_"]),
        ("ReduceSum", ["_", "axis"], {"keepdims": 1}),
        ("Div", ["s0", "_"]),
        constants={"axis": np.array([-1], np.int64)},
        stripped=SOFT,
    ),
    "written out with Reciprocal": behind(
        *WRITTEN_OUT,
        ("ReduceSum", ["s2", "axis"], {"keepdims": 1}),
        ("Reciprocal", ["_"]),
        ("Mul", ["_", "s2"]),
        constants={"axis": np.array([1], np.int64)},
        stripped=SOFT,
    ),
    "written out with the sum unsqueezed": behind(
        ("Exp", ["_"]),
        ("ReduceSum", ["_", "axis"], {"keepdims": 0}),
        ("Unsqueeze", ["_", "axis"]),
        ("Div", ["s0", "_"]),
        constants={"axis": np.array([1], np.int64)},
        stripped=SOFT,
    ),
    "log-softmax written out": behind(
        *WRITTEN_OUT,
        ("ReduceSum", ["s2", "axis"], {"keepdims": 1}),
        ("Log", ["_"]),
        ("Sub", ["s1", "_"]),
        constants={"axis": np.array([1], np.int64)},
        stripped=("LogSoftmax",),
    ),
    "exp less the logsumexp": behind(
        ("ReduceLogSumExp", ["_"], {"axes": [1], "keepdims": 1}), ("Sub", ["raw", "_"]), ("Exp", ["_"]), stripped=SOFT
    ),
    "four axes": four_axes(sizes=[N, C, 1, 1], stripped=()),
    "four axes, softmax": four_axes(node("Softmax", ["raw"], ["p"], axis=1), sizes=[N, C, 1, 1], stripped=SOFT),
    "four axes, softmax, flattened": four_axes(
        node("Softmax", ["raw"], ["s"], axis=1), node("Flatten", ["s"], ["p"], axis=1), sizes=[N, C], stripped=SOFT
    ),
    "four axes, softmax, squeezed": four_axes(
        node("Softmax", ["raw"], ["s"], axis=-3),
        node("Squeeze", ["s", "axes"], ["p"]),
        sizes=[N, C],
        constants={"axes": np.array([2, 3], np.int64)},
        stripped=SOFT,
    ),
    "four axes, channels last": four_axes(node("Transpose", ["raw"], ["y"], perm=[0, 2, 3, 1]), sizes=[N, 1, 1, C], stripped=()),
    "four axes, channels last, softmax": four_axes(
        node("Transpose", ["raw"], ["y"], perm=[0, 2, 3, 1]), node("Softmax", ["y"], ["p"], axis=-1), sizes=[N, 1, 1, C], stripped=SOFT
    ),
    "four axes, softmax, channels last, reshaped": four_axes(
        node("Softmax", ["raw"], ["s"], axis=1),
        node("Transpose", ["s"], ["y"], perm=[0, 2, 3, 1]),
        node("Reshape", ["y", "to"], ["p"]),
        sizes=[N, C],
        constants={"to": np.array([-1, C], np.int64)},
        stripped=SOFT,
    ),
    "four axes, argmax": four_axes(
        node("ArgMax", ["raw"], ["places"], axis=1), node("Cast", ["places"], ["label"], to=F), sizes=[N, 1, 1, 1], stripped=("ArgMax",)
    ),
    "three axes": behind(("Unsqueeze", ["_", "axis"]), constants={"axis": np.array([1], np.int64)}, sizes=[N, 1, C], stripped=()),
    "three axes, the first of one": behind(
        ("Unsqueeze", ["_", "axis"]), constants={"axis": np.array([0], np.int64)}, sizes=[1, N, C], stripped=()
    ),
    "columns": behind(("Transpose", ["_"], {"perm": [1, 0]}), sizes=[C, N], stripped=()),
    "logits in double": behind(cast(TensorProto.DOUBLE), kind=TensorProto.DOUBLE, stripped=()),
    "argmax": behind(ARGMAX, sizes=[N], kind=WHOLE, stripped=("ArgMax",)),
    "argmax kept": behind(("ArgMax", ["_"], {"axis": -1, "keepdims": 1}), sizes=[N, 1], kind=WHOLE, stripped=("ArgMax",)),
    "argmax of softmax": behind(SOFTMAX, ARGMAX, sizes=[N], kind=WHOLE, stripped=("ArgMax", *SOFT)),
    "argmax to int32": behind(ARGMAX, cast(TensorProto.INT32), sizes=[N], kind=TensorProto.INT32, stripped=("ArgMax",)),
    "argmax to float": behind(ARGMAX, cast(F), sizes=[N], stripped=("ArgMax",)),
    "argmax counted from 1": behind(
        ARGMAX, ("Add", ["_", "one"]), constants={"one": np.int64(1)}, sizes=[N], kind=WHOLE, stripped=("ArgMax",)
    ),
    "last argmax": behind(
        ("ArgMax", ["_"], {"axis": 1, "keepdims": 0, "select_last_index": 1}), sizes=[N], kind=WHOLE, stripped=("ArgMax",)
    ),
    "argmin of the negative": behind(
        ("Neg", ["_"]), ("ArgMin", ["_"], {"axis": 1, "keepdims": 0}), sizes=[N], kind=WHOLE, stripped=("ArgMin",)
    ),
    "one-hot": behind(
        ARGMAX,
        ("OneHot", ["_", "depth", "values"], {"axis": -1}),
        constants={"depth": np.array([C], np.int64), "values": np.array([0, 1], np.float32)},
    ),
    "first of TopK": several(("places", WHOLE, [N, 1]), nodes=[PROBABILITIES, node("TopK", ["p", "one"], ["values", "places"], axis=1)]),
    "three of TopK": several(("values", F, [N, 3]), ("places", WHOLE, [N, 3]), nodes=[PROBABILITIES, TOP]),
    "places of TopK": several(("places", WHOLE, [N, 3]), nodes=[PROBABILITIES, TOP]),
    "label and probabilities": several(("label", WHOLE, [N]), ("p", F, [N, C]), nodes=[PROBABILITIES, LABEL], stripped=SOFT),
    "probabilities and logits": several(("p", F, [N, C]), ("raw", F, [N, C]), nodes=[PROBABILITIES], stripped=()),
    "features, probabilities, logits": several(
        ("features", F, [N, 12]), ("p", F, [N, C]), ("raw", F, [N, C]), nodes=[PROBABILITIES], stripped=()
    ),
    "logits, map": several(("raw", F, [N, C]), ("map", F, [N, 12, 8, 8]), stripped=()),
    "features and probabilities": several(("features", F, [N, 12]), ("p", F, [N, C]), nodes=[PROBABILITIES], stripped=SOFT),
    "scaled features and logits": several(
        ("embedding", F, [N, 12]),
        ("raw", F, [N, C]),
        nodes=[node("ReduceL2", ["features"], ["length"], axes=[1]), node("Div", ["features", "length"], ["embedding"])],
        stripped=(),
    ),
    "confidence, label, probabilities": several(
        ("best", F, [N]),
        ("label", WHOLE, [N]),
        ("p", F, [N, C]),
        nodes=[PROBABILITIES, LABEL, node("ReduceMax", ["p"], ["best"], axes=[1], keepdims=0)],
        stripped=SOFT,
    ),
    "label and confidence": several(
        ("label", WHOLE, [N]),
        ("best", F, [N, 1]),
        nodes=[PROBABILITIES, LABEL, node("ReduceMax", ["p"], ["best"], axes=[1], keepdims=1)],
        stripped=("ArgMax",),
    ),
    "probabilities twice": several(
        ("p", F, [N, C]), ("log_p", F, [N, C]), nodes=[PROBABILITIES, node("LogSoftmax", ["raw"], ["log_p"], axis=1)]
    ),
    "a second classifier for training": onnx_form(aux, stripped=()),
    "TorchScript, softmax clamped": written(lambda y: y.softmax(-1).clamp(1e-7, 1 - 1e-7), ".pt", stripped=("Clip", *SOFT)),
    "TorchScript, written out in double": written(
        lambda y: (
            (y.double() - y.double().max(1, keepdim=True).values).exp()
            / (y.double() - y.double().max(1, keepdim=True).values).exp().sum(1, keepdim=True)
        ).float(),
        ".pt",
    ),
    "TorchScript, label of topk": written(lambda y: y.softmax(1).topk(1).indices.squeeze(1), ".pt"),
    "torch.export, percent": written(lambda y: (y.softmax(1) * 100).round(decimals=1), ".pt2", stripped=("Round", *SOFT)),
    "torch.export, four axes": written(lambda y: y[:, :, None, None].softmax(1).flatten(1), ".pt2", stripped=SOFT),
    "torch.export, max": written(lambda y: y.max(1).indices, ".pt2"),
}
