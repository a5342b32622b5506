"""Forms that differ in how the classifier, or the weights of a layer, are written."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tests.importers.equivalent.form import Form, onnx_form, torch_form
from tests.importers.equivalent.network import CLASSES, FEATURES, Network, network
from tests.importers.equivalent.surgery import before_head, drop, node, put, value

F = TensorProto.FLOAT
Array = np.ndarray
BIAS = node("Add", ["product", "head.bias"], ["logits"])
MATMUL = node("MatMul", ["features", "w"], ["product"])


def head(*nodes: onnx.NodeProto, weights: Callable[[Array, Array], dict[str, object]], version: int | None = None, **how: object) -> Form:
    """A form with these nodes in place of the Gemm; `weights` makes their constants of weight [7, 12] and bias [7]."""

    def change(model: onnx.ModelProto) -> None:
        made = weights(value(model, "head.weight"), value(model, "head.bias"))
        model.graph.node.pop()
        model.graph.node.extend(nodes)
        if not any("head.weight" in n.input for n in nodes):
            drop(model, "head.weight")
        put(model, **made)
        if version is not None:
            model.opset_import[0].version = version

    return onnx_form(change, **how)


def through(*nodes: onnx.NodeProto, weights: Callable[[Array], dict[str, object]], **how: object) -> Form:
    """A MatMul whose weight [12, 7], called "w", is what these nodes make of constants."""
    return head(*nodes, MATMUL, BIAS, weights=lambda w, b: weights(w), **how)  # type: ignore[arg-type]


def changed(change: Callable[[onnx.ModelProto], None], **how: object) -> Form:
    return onnx_form(change, **how)


def steps(w: Array, axis: int | None = None) -> Array:
    """A scale for 8 bits."""
    largest = np.abs(w).max() if axis is None else np.abs(w).max(1 - axis)
    return (largest / 127).astype(np.float32)


def eight(w: Array, scale: Array, axis: int = 0) -> Array:
    shape = [-1 if i == axis else 1 for i in range(w.ndim)]
    return np.round(w / scale.reshape(shape if scale.size > 1 else ())).clip(-127, 127).astype(np.int8)


def typed(name: str, kind: int, array: Array) -> onnx.TensorProto:
    return helper.make_tensor(name, kind, array.shape, array.astype(np.float32).ravel())


def low_bits(kind: int, dtype: object, **attributes: int) -> Form:
    """The weight of the head in 4 bits or in floats of 8."""

    def change(model: onnx.ModelProto) -> None:
        w = drop(model, "head.weight").T
        float8 = "float8" in str(dtype)
        scale = np.float32(np.abs(w).max() / (400 if float8 else 7))
        rounded = (w / scale).astype(dtype) if float8 else np.round(w / scale).clip(-8, 7)  # type: ignore[call-overload]
        if kind == TensorProto.UINT4:
            rounded = rounded + 8
        model.graph.initializer.append(typed("q", kind, np.asarray(rounded)))
        inputs = ["q", "step"]
        if kind == TensorProto.UINT4:
            model.graph.initializer.append(typed("zero", kind, np.full((), 8)))
            inputs.append("zero")
        put(model, step=scale)
        model.graph.node.pop()
        model.graph.node.extend([node("DequantizeLinear", inputs, ["w"], **attributes), MATMUL, BIAS])
        model.opset_import[0].version = 21
        model.ir_version = 10

    return onnx_form(change, exact=0.2)


def blocked(w: Array) -> dict[str, object]:
    parts = w.T.reshape(3, 4, CLASSES)
    scale = (np.abs(parts).max(1) / 127).astype(np.float32)
    return {"q": np.round(parts / scale[:, None]).astype(np.int8).reshape(FEATURES, CLASSES), "step": scale}


def few_bits(w: Array, b: Array) -> dict[str, object]:
    """4 bits in blocks of 16, as onnxruntime's MatMulNBits has them."""
    rows = np.zeros((CLASSES, 16), np.float32)
    rows[:, :FEATURES] = w
    scale = (np.abs(rows).max(1) / 7).astype(np.float32)
    q = (np.round(rows / scale[:, None]) + 8).astype(np.uint8)
    return {"packed": (q[:, ::2] | (q[:, 1::2] << 4)).reshape(CLASSES, 1, 8), "steps": scale}


def nbits() -> Form:
    def change(model: onnx.ModelProto) -> None:
        put(model, **few_bits(drop(model, "head.weight"), np.zeros(0)))
        model.graph.node.pop()
        product = node(
            "MatMulNBits",
            ["features", "packed", "steps"],
            ["product"],
            domain="com.microsoft",
            K=FEATURES,
            N=CLASSES,
            bits=4,
            block_size=16,
        )
        model.graph.node.extend([product, BIAS])
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    return onnx_form(change, exact=0.2)


def quantised_everywhere(model: onnx.ModelProto) -> None:
    """Q and DQ around every weight and on every activation; the weights of convolutions by channel."""
    steps_: list[onnx.NodeProto] = []
    for step in model.graph.node:
        for i, name in enumerate(step.input[:2]):
            weight = name.endswith(".weight")
            if step.op_type not in ("Conv", "Gemm"):
                continue
            if weight and f"{name}.q" not in {t.name for t in model.graph.initializer}:
                w = value(model, name)
                scale = (np.abs(w).reshape(len(w), -1).max(1) / 127).astype(np.float32)
                put(model, **{f"{name}.q": eight(w, scale), f"{name}.s": scale, f"{name}.z": np.zeros(len(w), np.int8)})
                steps_.append(node("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], [f"{name}.dq"], axis=0))
                drop(model, name)
            elif i == 0 and not weight:
                put(model, wide=np.array(0.05, np.float32), middle=np.array(0, np.int8))
                end = f"{name}.{step.name}"
                steps_.append(node("QuantizeLinear", [name, "wide", "middle"], [f"{end}.q"]))
                steps_.append(node("DequantizeLinear", [f"{end}.q", "wide", "middle"], [f"{end}.dq"]))
                step.input[i] = f"{end}.dq"
            if weight:
                step.input[i] = f"{name}.dq"
        steps_.append(step)
    del model.graph.node[:]
    model.graph.node.extend(steps_)


def dynamic(model: onnx.ModelProto) -> None:
    """The head in integers, whose scale depends on the image."""
    w = drop(model, "head.weight").T
    scale = steps(w)
    put(model, wq=np.round(w / scale).astype(np.int8), ws=scale, wz=np.int8(0))
    model.graph.node.pop()
    model.graph.node.extend(
        [
            node("DynamicQuantizeLinear", ["features"], ["fq", "fs", "fz"]),
            node("MatMulInteger", ["fq", "wq", "fz", "wz"], ["whole"]),
            node("Cast", ["whole"], ["real"], to=F),
            node("Mul", ["fs", "ws"], ["both"]),
            node("Mul", ["real", "both"], ["product"]),
            BIAS,
        ]
    )


def integer_image(model: onnx.ModelProto) -> None:
    """uint8 images, dequantised inside."""
    put(model, step=np.float32(1 / 255), zero=np.uint8(0))
    model.graph.node[0].input[0] = "pixels"
    rest = list(model.graph.node)
    del model.graph.node[:]
    for step in rest[1:]:
        step.input[:] = ["pixels" if i == "image" else i for i in step.input]
    model.graph.node.extend([node("DequantizeLinear", ["image", "step", "zero"], ["pixels"]), *rest])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def in_branches(model: onnx.ModelProto) -> None:
    """A weight of 8 bits in the branch of an If whose condition is constant."""
    w = drop(model, "head.weight").T
    scale = steps(w)
    inner = [node("DequantizeLinear", ["q", "s"], ["inner"])]
    held = [numpy_helper.from_array(eight(w, scale), "q"), numpy_helper.from_array(np.asarray(scale), "s")]
    kept = helper.make_graph(inner, "then", [], [helper.make_tensor_value_info("inner", F, None)], held)
    other = helper.make_graph(
        [node("Constant", [], ["zeros"], value=numpy_helper.from_array(np.zeros_like(w)))],
        "else",
        [],
        [helper.make_tensor_value_info("zeros", F, None)],
    )
    put(model, yes=np.array(True))
    model.graph.node.pop()
    model.graph.node.extend([helper.make_node("If", ["yes"], ["w"], then_branch=kept, else_branch=other), MATMUL, BIAS])


def all_half(model: onnx.ModelProto) -> None:
    """Every weight stored in 16 bits behind a Cast."""
    casts = []
    for tensor in list(model.graph.initializer):
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half"))
        casts.append(node("Cast", [f"{name}.half"], [name], to=F))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *rest])


def whole_map(model: onnx.ModelProto) -> None:
    """A convolution as large as the map in place of the pooling and the head: its features are the whole map."""
    w = drop(model, "head.weight")
    put(model, **{"head.kernel": np.broadcast_to(w[:, :, None, None] / 64, (*w.shape, 8, 8)).astype(np.float32)})
    del model.graph.node[-3:]
    model.graph.node.extend([node("Conv", ["map", "head.kernel", "head.bias"], ["full"]), node("Flatten", ["full"], ["logits"], axis=1)])


def pooled_late(*nodes: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    """A 1x1 convolution on the map and the mean behind it."""

    def change(model: onnx.ModelProto) -> None:
        put(model, **{"head.kernel": drop(model, "head.weight")[:, :, None, None]})
        del model.graph.node[-3:]
        model.graph.node.extend([node("Conv", ["map", "head.kernel", "head.bias"], ["scores"]), *nodes])

    return change


def scripted(make: Callable[[Network], nn.Module], suffix: str, **how: object) -> Form:
    return torch_form(lambda: make(network()), suffix, **how)


class Other(nn.Module):
    """The network with another head on its features."""

    def __init__(self, net: Network, head_: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.other = net, head_

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.net, self.net.features(x))


def norm(w: Array) -> Array:
    return np.sqrt((w**2).sum(1, keepdims=True))


def factors(w: Array) -> tuple[Array, Array]:
    """The weight [12, 7] as a product, by a singular value decomposition."""
    left, spread, right = np.linalg.svd(w.T, full_matrices=False)
    return (left * spread).astype(np.float32), right.astype(np.float32)


def biased(w: Array, b: Array) -> dict[str, object]:
    first, second = factors(w)
    c = np.linspace(-1, 1, CLASSES).astype(np.float32)
    return {"u": first, "v": second, "c": c, "d": b - c @ second}


def none(_: object) -> None:
    """For changes that are one expression."""


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


GRAPHS: dict[str, Form] = {
    "MatMul": through(weights=lambda w: {"w": w.T}),
    "Transpose": through(node("Transpose", ["v"], ["w"], perm=[1, 0]), weights=lambda w: {"v": w}),
    "Transpose without order": through(node("Transpose", ["v"], ["w"]), weights=lambda w: {"v": w}),
    "Identity": through(node("Identity", ["v"], ["u"]), node("Identity", ["u"], ["w"]), weights=lambda w: {"v": w.T}),
    "Cast of float16": through(node("Cast", ["v"], ["w"], to=F), weights=lambda w: {"v": w.T.astype(np.float16)}, exact=2e-3),
    "Cast of double": through(node("Cast", ["v"], ["w"], to=F), weights=lambda w: {"v": w.T.astype(np.float64)}),
    "Reshape": through(node("Reshape", ["v", "to"], ["w"]), weights=lambda w: {"v": w.T.reshape(12, 7, 1), "to": ints(12, 7)}),
    "Reshape from a row": through(node("Reshape", ["v", "to"], ["w"]), weights=lambda w: {"v": w.T.ravel(), "to": ints(12, -1)}),
    "Squeeze": through(node("Squeeze", ["v", "axes"], ["w"]), weights=lambda w: {"v": w.T[None], "axes": ints(0)}),
    "Unsqueeze and Transpose": through(
        node("Unsqueeze", ["v", "axes"], ["u"]),
        node("Transpose", ["u"], ["t"], perm=[0, 2, 1]),
        node("Squeeze", ["t", "axes"], ["w"]),
        weights=lambda w: {"v": w, "axes": ints(0)},
    ),
    "Concat": through(node("Concat", ["v", "u"], ["w"], axis=1), weights=lambda w: {"v": w.T[:, :3], "u": w.T[:, 3:]}),
    "Slice": through(
        node("Slice", ["v", "from", "to", "axes"], ["w"]),
        weights=lambda w: {"v": np.concatenate([w.T, w.T], 1), "from": ints(7), "to": ints(14), "axes": ints(1)},
    ),
    "Gather": through(
        node("Gather", ["v", "order"], ["w"], axis=1), weights=lambda w: {"v": w.T[:, ::-1], "order": np.arange(7)[::-1].copy()}
    ),
    "Split": through(node("Split", ["v"], ["w", "rest"], axis=1), weights=lambda w: {"v": np.concatenate([w.T, w.T * 2], 1)}),
    "a scaled weight": through(
        node("Mul", ["v", "factor"], ["w"]), weights=lambda w: {"v": w.T * 4, "factor": np.full((1, 7), 0.25, np.float32)}
    ),
    "weight norm": through(
        node("ReduceL2", ["v"], ["length"], axes=[0]),
        node("Div", ["v", "length"], ["unit"]),
        node("Mul", ["unit", "g"], ["w"]),
        weights=lambda w: {"v": 3 * w.T, "g": norm(w).T},
    ),
    "Q and DQ": through(
        node("QuantizeLinear", ["v", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["w"]),
        weights=lambda w: {"v": w.T, "s": steps(w), "z": np.int8(0)},
        exact=2e-2,
    ),
    "Q and DQ by channel": through(
        node("QuantizeLinear", ["v", "s", "z"], ["q"], axis=1),
        node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1),
        weights=lambda w: {"v": w.T, "s": steps(w.T, 1), "z": np.zeros(7, np.int8)},
        exact=2e-2,
    ),
    "DQ": through(node("DequantizeLinear", ["q", "s"], ["w"]), weights=lambda w: {"q": eight(w.T, steps(w)), "s": steps(w)}, exact=2e-2),
    "DQ behind a Transpose": through(
        node("Transpose", ["q"], ["t"], perm=[1, 0]),
        node("DequantizeLinear", ["t", "s"], ["w"]),
        weights=lambda w: {"q": eight(w, steps(w)), "s": steps(w)},
        exact=2e-2,
    ),
    "DQ in front of a Transpose": through(
        node("DequantizeLinear", ["q", "s", "z"], ["t"]),
        node("Transpose", ["t"], ["w"], perm=[1, 0]),
        weights=lambda w: {"q": (eight(w, steps(w)).astype(np.int16) + 128).astype(np.uint8), "s": steps(w), "z": np.uint8(128)},
        exact=2e-2,
    ),
    "DQ in blocks": head(
        node("DequantizeLinear", ["q", "step"], ["w"], axis=0, block_size=4),
        MATMUL,
        BIAS,
        weights=lambda w, b: blocked(w),
        version=21,
        exact=2e-2,
    ),
    "int4": low_bits(TensorProto.INT4, np.int8),
    "uint4": low_bits(TensorProto.UINT4, np.int8),
    "float8": low_bits(TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
    "MatMulNBits": nbits(),
    "8 bits everywhere": changed(quantised_everywhere, exact=0.1),
    "8 bits of the image's own scale": changed(dynamic, exact=2e-2),
    "8 bits in a branch": changed(in_branches, exact=2e-2),
    "DQ of the image": changed(integer_image, images=lambda p: np.ascontiguousarray(p.astype(np.float32).transpose(0, 3, 1, 2))),
    "Einsum": head(node("Einsum", ["features", "v"], ["product"], equation="bc,oc->bo"), BIAS, weights=lambda w, b: {"v": w}),
    "Einsum without an arrow": head(
        node("Einsum", ["features", "v"], ["product"], equation="ij,jk"), BIAS, weights=lambda w, b: {"v": w.T}
    ),
    "Einsum, weight first": head(
        node("Einsum", ["v", "features"], ["product"], equation="oc, bc -> bo"), BIAS, weights=lambda w, b: {"v": w}
    ),
    "Einsum, columns": head(
        node("Einsum", ["v", "features"], ["columns"], equation="oc,bc->ob"),
        node("Transpose", ["columns"], ["product"], perm=[1, 0]),
        BIAS,
        weights=lambda w, b: {"v": w},
    ),
    "weight on the left": head(
        node("Transpose", ["features"], ["x"]),
        node("MatMul", ["head.weight", "x"], ["y"]),
        node("Transpose", ["y"], ["product"]),
        BIAS,
        weights=lambda w, b: {},
    ),
    "weight on the left, bias as a column": head(
        node("Transpose", ["features"], ["x"]),
        node("MatMul", ["head.weight", "x"], ["y"]),
        node("Add", ["y", "column"], ["z"]),
        node("Transpose", ["z"], ["logits"]),
        weights=lambda w, b: {"column": b[:, None]},
    ),
    "weight on the left of columns": head(
        node("Unsqueeze", ["features", "last"], ["x"]),
        node("MatMul", ["head.weight", "x"], ["y"]),
        node("Squeeze", ["y", "last"], ["product"]),
        BIAS,
        weights=lambda w, b: {"last": ints(2)},
    ),
    "weight of three axes": head(
        node("MatMul", ["features", "v"], ["y"]),
        node("Squeeze", ["y", "front"], ["product"]),
        BIAS,
        weights=lambda w, b: {"v": w.T[None], "front": ints(0)},
    ),
    "weight of three axes, features too": head(
        node("Unsqueeze", ["features", "axis"], ["x"]),
        node("MatMul", ["x", "v"], ["y"]),
        node("Squeeze", ["y", "axis"], ["product"]),
        BIAS,
        weights=lambda w, b: {"v": w.T[None], "axis": ints(1)},
    ),
    "Gemm without transB": head(node("Gemm", ["features", "v", "head.bias"], ["logits"]), weights=lambda w, b: {"v": w.T}),
    "Gemm with alpha and beta": head(
        node("Gemm", ["features", "v", "bias"], ["logits"], alpha=0.5, beta=2.0, transB=1), weights=lambda w, b: {"v": 2 * w, "bias": b / 2}
    ),
    "Gemm with transA": head(
        node("Transpose", ["features"], ["x"]),
        node("Gemm", ["x", "head.weight", "head.bias"], ["logits"], transA=1, transB=1),
        weights=lambda w, b: {},
    ),
    "Gemm with a bias of two axes": head(
        node("Gemm", ["features", "head.weight", "bias"], ["logits"], transB=1), weights=lambda w, b: {"bias": b[None]}
    ),
    "Gemm without a bias, Add": head(
        node("Gemm", ["features", "head.weight"], ["product"], transB=1),
        node("Add", ["bias", "product"], ["logits"]),
        weights=lambda w, b: {"bias": b[None]},
    ),
    "bias by Sub": head(MATMUL, node("Sub", ["product", "bias"], ["logits"]), weights=lambda w, b: {"w": w.T, "bias": -b}),
    "bias in two parts": head(
        MATMUL,
        node("Add", ["product", "bias"], ["y"]),
        node("Add", ["y", "rest"], ["logits"]),
        weights=lambda w, b: {"w": w.T, "bias": b - 1, "rest": np.ones(1, np.float32)},
    ),
    "bias computed": head(
        MATMUL,
        node("Mul", ["bias", "half"], ["c"]),
        node("Add", ["product", "c"], ["logits"]),
        weights=lambda w, b: {"w": w.T, "bias": 2 * b, "half": np.float32(0.5)},
    ),
    "scale behind": head(
        node("Gemm", ["features", "v", "bias"], ["y"], transB=1),
        node("Mul", ["y", "scale"], ["logits"]),
        weights=lambda w, b: {"v": w / 8, "bias": b / 8, "scale": np.float32(8)},
    ),
    "scale of each class behind": head(
        node("Gemm", ["features", "v", "bias"], ["y"], transB=1),
        node("Div", ["y", "scale"], ["logits"]),
        weights=lambda w, b: {
            "v": (w * np.arange(1, 8)[:, None]).astype(np.float32),
            "bias": (b * np.arange(1, 8)).astype(np.float32),
            "scale": np.arange(1, 8).astype(np.float32),
        },
    ),
    "two factors": head(
        node("MatMul", ["features", "u"], ["inner"]),
        node("MatMul", ["inner", "v"], ["product"]),
        BIAS,
        weights=lambda w, b: dict(zip("uv", factors(w), strict=True)),
    ),
    "two layers without an activation": head(
        node("Gemm", ["features", "u", "c"], ["inner"]), node("Gemm", ["inner", "v", "d"], ["logits"]), weights=lambda w, b: biased(w, b)
    ),
    "two constant factors": through(node("MatMul", ["u", "v"], ["w"]), weights=lambda w: dict(zip("uv", factors(w), strict=True))),
    "convolution": changed(pooled_late(node("GlobalAveragePool", ["scores"], ["p"]), node("Flatten", ["p"], ["logits"], axis=1))),
    "convolution, mean": changed(pooled_late(node("ReduceMean", ["scores"], ["logits"], axes=[2, 3], keepdims=0))),
    "convolution, AveragePool": changed(
        pooled_late(node("AveragePool", ["scores"], ["p"], kernel_shape=[8, 8]), node("Flatten", ["p"], ["logits"], axis=1))
    ),
    "convolution as large as the map": changed(whole_map, features=False),
    "Dropout": changed(lambda m: none(before_head(m, node("Dropout", ["features"], ["kept"])))),
    "Dropout with its mask": changed(lambda m: none(before_head(m, node("Dropout", ["features"], ["kept", "mask"])))),
    "Dropout with a flag": changed(
        lambda m: none(put(m, ratio=np.array(0.5, np.float32), train=np.array(False)))
        or none(before_head(m, node("Dropout", ["features", "ratio", "train"], ["kept"])))
    ),
    "all weights in 16 bits": changed(all_half, exact=3e-3),
}
PROGRAMS: dict[str, Form] = {
    "torch.export, product on the left": scripted(lambda n: Other(n, lambda net, x: (net.head.weight @ x.t()).t() + net.head.bias), ".pt2"),
    "torch.export, addmm of a transposed weight": scripted(
        lambda n: Other(n, lambda net, x: torch.addmm(net.head.bias, x, net.head.weight.t())), ".pt2"
    ),
    "torch.export, einsum": scripted(
        lambda n: Other(n, lambda net, x: torch.einsum("nf,cf->nc", x, net.head.weight) + net.head.bias), ".pt2"
    ),
    "torch.export, bmm with an expanded weight": scripted(
        lambda n: Other(
            n, lambda net, x: torch.bmm(x[:, None], net.head.weight.t()[None].expand(x.shape[0], -1, -1)).squeeze(1) + net.head.bias
        ),
        ".pt2",
    ),
    "TorchScript, matmul of a transposed weight": scripted(
        lambda n: Other(n, lambda net, x: x.matmul(net.head.weight.t()) + net.head.bias), ".pt"
    ),
}
FORMS = GRAPHS | PROGRAMS
