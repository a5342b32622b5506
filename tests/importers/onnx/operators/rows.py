"""Graphs of one operator, as data: operator, opset, attributes, inputs. Each has to be computed as onnxruntime does."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

RNG = np.random.default_rng(7)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One graph.

    Attributes:
        x: the values that stand for pixels, [N, ...]; `kind` is the type that the operator gets them in.
        rest: the other inputs, constants; None for one that is left out.
        output: which output is looked at.
        static: whether it is tried with constants only, too (from opset 7 on).
        expected: of what onnxruntime has no kernel for.
    """

    op: str
    opset: int
    x: np.ndarray
    rest: tuple[np.ndarray | None, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    output: int = 0
    outputs: int = 1
    kind: str = "float32"
    domain: str = ""
    static: bool = True
    place: int = 0
    close: float = 1e-5
    expected: np.ndarray | None = None

    def __str__(self) -> str:
        shapes = [None if r is None else list(np.shape(r)) for r in self.rest]
        return f"{self.op}-{self.opset} {self.attributes} {list(self.x.shape)} {self.kind} {shapes} output {self.output}"


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def choices(**options: list[Any]) -> Iterator[dict[str, Any]]:
    """All combinations; a value of None leaves the attribute out."""
    for values in product(*options.values()):
        yield {key: value for key, value in zip(options, values, strict=True) if value is not None}


MAP = normal(2, 4, 7, 6)
UNARY_1 = ["Abs", "Ceil", "Exp", "Floor", "Log", "Neg", "Reciprocal", "Sigmoid", "Sqrt", "Tanh", "Relu", "Softplus", "Softsign"]


def unary() -> Iterator[Row]:
    wide = (3 * normal(2, 3, 4)).astype(np.float32)
    for op in UNARY_1:
        yield Row(op=op, opset=6, x=np.abs(wide) if op in ("Log", "Sqrt") else wide)
        yield Row(op=op, opset=13, x=np.abs(wide) if op in ("Log", "Sqrt") else wide)
    for op in ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Asinh", "Atanh", "Cosh", "Erf", "Sign", "IsNaN", "HardSwish", "Mish"):
        x = np.tanh(wide) if op in ("Asin", "Acos", "Atanh") else wide
        yield Row(op=op, opset={"HardSwish": 14, "Mish": 18}.get(op, 13), x=x)
    yield Row(op="Acosh", opset=9, x=1 + np.abs(wide))
    halves = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, -7.3]], np.float32)
    yield Row(op="Round", opset=11, x=halves)
    yield Row(op="Round", opset=22, x=halves)
    yield Row(op="Not", opset=6, x=np.array([[0, 1, 1]], np.float32), kind="bool")
    yield Row(op="BitwiseNot", opset=18, x=np.array([[0, 1, 7]], np.float32), kind="int32")
    infinite = np.array([[1, np.inf, -np.inf]], np.float32)
    for attributes in choices(detect_positive=[None, 0, 1], detect_negative=[None, 0, 1]):
        yield Row(op="IsInf", opset=10, x=infinite, attributes=attributes)
    for op, opset, options in (
        ("LeakyRelu", 6, {"alpha": [None, 0.3]}),
        ("LeakyRelu", 16, {"alpha": [None, 0.3]}),
        ("Elu", 6, {"alpha": [None, 0.5]}),
        ("Selu", 6, {"alpha": [None, 2.0], "gamma": [None, 1.5]}),
        ("Celu", 12, {"alpha": [None, 0.5]}),
        ("HardSigmoid", 6, {"alpha": [None, 0.3], "beta": [None, 0.4]}),
        ("ThresholdedRelu", 10, {"alpha": [None, 0.5]}),
        ("Shrink", 9, {"bias": [None, 0.3], "lambd": [None, 0.7]}),
        ("Gelu", 20, {"approximate": [None, "tanh", "none"]}),
    ):
        for attributes in choices(**options):
            yield Row(op=op, opset=opset, x=wide, attributes=attributes)
    for version in (1, 11, 13):
        for axis in (None, 0, 1, 2, 3, -1, -2):
            if not (version == 1 and axis is not None and axis < 0):
                for op in ("Softmax", "LogSoftmax", "Hardmax"):
                    yield Row(op=op, opset=version, x=normal(2, 3, 4, 5), attributes={} if axis is None else {"axis": axis})
    for opset, slope in ((7, normal(3, 1, 1)), (9, normal(1)), (16, normal(3, 4, 4)), (16, normal(4)), (9, normal(1, 3, 1, 1))):
        yield Row(op="PRelu", opset=opset, x=normal(2, 3, 4, 4), rest=(slope,))
    yield Row(op="Clip", opset=6, x=wide, attributes={"min": -1.0})
    yield Row(op="Clip", opset=6, x=wide, attributes={"max": 1.0, "min": -0.5})
    yield Row(op="Clip", opset=6, x=wide)
    for rest in ((number(-1),), (None, number(1)), (number(-1), number(0.5)), (number(2), number(1)), ()):
        yield Row(op="Clip", opset=13, x=wide, rest=rest)
    yield Row(op="Clip", opset=12, x=wide, rest=(np.array(-1, np.int32), np.array(2, np.int32)), kind="int32")


def binary() -> Iterator[Row]:
    x = normal(2, 3, 4, 5)
    for op in ("Add", "Sub", "Mul", "Div"):
        for opset in (7, 13, 14):
            for other in (normal(1), normal(5), normal(3, 1, 1), normal(1, 3, 4, 1), np.array(0.7, np.float32), normal(1, 1, 1, 1, 1)):
                yield Row(op=op, opset=opset, x=x, rest=(other,))
                if opset == 14:
                    yield Row(op=op, opset=opset, x=x, rest=(other,), place=1)
        ints = np.array([[-7, 7, -6, 5, 0, 9]], np.float32)
        yield Row(op=op, opset=13, x=ints, rest=(np.array([3, -2, 2, 2, 4, -4], np.int32),), kind="int32")
        yield Row(op=op, opset=13, x=ints, rest=(np.array(-2, np.int64),), kind="int64")
        yield Row(op=op, opset=14, x=np.abs(ints), rest=(np.array(2, np.uint8),), kind="uint8")
    for kind in ("int32", "int64", "int8"):
        for fmod in (None, 0, 1):
            given = {} if fmod is None else {"fmod": fmod}
            divisors = np.array([3, -3, 4, -4, 5, -5], kind)
            yield Row(op="Mod", opset=13, x=np.array([[-7, 7, -6, 6, 0, 9]], np.float32), rest=(divisors,), attributes=given, kind=kind)
    yield Row(op="Mod", opset=13, x=x, rest=(normal(5) + 2,), attributes={"fmod": 1})
    for opset in (7, 12, 13, 15):
        yield Row(op="Pow", opset=opset, x=np.abs(x), rest=(number(2),))
        yield Row(op="Pow", opset=opset, x=np.abs(x), rest=(normal(5),))
        yield Row(op="Pow", opset=opset, x=x, rest=(number(3),))
    yield Row(op="Pow", opset=13, x=x, rest=(np.array(2, np.int64),))
    yield Row(op="Pow", opset=13, x=normal(2, 3), rest=(number(2),), place=1)
    yield Row(op="Pow", opset=13, x=np.array([[3, -2]], np.float32), rest=(number(2),), kind="int32")
    for op in ("Equal", "Greater", "Less"):
        for opset in (9, 11, 13):
            yield Row(op=op, opset=opset, x=np.round(2 * x), rest=(np.array([0, 1, 2, -1, -2], np.int32),), kind="int32")
            if not (op == "Equal" and opset == 9):
                yield Row(op=op, opset=opset, x=np.round(2 * x), rest=(number(1),))
    for op in ("GreaterOrEqual", "LessOrEqual"):
        yield Row(op=op, opset=12, x=np.round(2 * x), rest=(number(1),))
        yield Row(op=op, opset=16, x=np.round(2 * x), rest=(np.array([0, 1, 2, -1, -2], np.int32),), kind="int32")
    truths = np.array([[0, 1, 0, 1]], np.float32)
    for op in ("And", "Or", "Xor"):
        yield Row(op=op, opset=7, x=truths, rest=(np.array([False, False, True, True]),), kind="bool")
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield Row(op=op, opset=18, x=np.array([[12, 10, 7]], np.float32), rest=(np.array(6, np.int32),), kind="int32")
    for direction in ("LEFT", "RIGHT"):
        given = {"direction": direction}
        yield Row(
            op="BitShift", opset=11, x=np.array([[16, 4, 1]], np.float32), rest=(np.array(2, np.uint8),), kind="uint8", attributes=given
        )
    for op in ("Sum", "Max", "Min", "Mean"):
        for opset in (8, 13):
            yield Row(op=op, opset=opset, x=x)
            yield Row(op=op, opset=opset, x=x, rest=(normal(5), normal(3, 1, 1)))
    yield Row(op="Max", opset=13, x=np.array([[3, -2]], np.float32), rest=(np.array(1, np.int64),), kind="int64")
    yield Row(op="Where", opset=9, x=truths, rest=(normal(4), normal(4)), kind="bool")
    yield Row(op="Where", opset=16, x=normal(1, 4), rest=(np.array([True, False, True, False]), normal(4)), place=1)
    yield Row(op="Where", opset=16, x=normal(1, 4), rest=(np.array([True, False, True, False]), number(0)), place=1)
    for op, opset in (("CumSum", 11), ("CumSum", 14)):
        for given in choices(reverse=[None, 1], exclusive=[None, 1]):
            for axis in (1, -1):
                yield Row(op=op, opset=opset, x=normal(2, 3, 4), rest=(np.array(axis, np.int64),), attributes=given)


def old_broadcast() -> Iterator[Row]:
    """Up to opset 6 an attribute says how; onnxruntime begins with 7."""
    x = np.abs(normal(2, 3, 4, 5)) + 1
    functions = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power}
    for op, function in functions.items():
        for opset in (1, 6):
            if op == "Pow" and opset == 6:
                continue
            for shape, axis in (((3,), 1), ((3, 4), 1), ((5,), None), ((4, 5), None), ((2, 3), 0), ((5,), 3), ((1,), None)):
                b = np.abs(normal(*shape))
                given = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
                aligned = b if axis is None else b.reshape(*shape, *(1,) * (4 - axis - len(shape)))
                yield Row(op=op, opset=opset, x=x, rest=(b,), attributes=given, expected=function(x, aligned), static=False)
    yield Row(op="Add", opset=1, x=x, rest=(x.copy(),), attributes={"consumed_inputs": [0, 0]}, expected=2 * x, static=False)
    yield Row(op="Relu", opset=1, x=x, attributes={"consumed_inputs": [0]}, expected=x, static=False)
    yield Row(op="Selu", opset=1, x=x, expected=(1.0507 * x).astype(np.float32), static=False)
    slope = normal(3)
    yield Row(op="PRelu", opset=1, x=-x, rest=(slope,), expected=-x * slope.reshape(3, 1, 1), static=False)
    yield Row(op="PRelu", opset=6, x=-x, rest=(number(0.5),), expected=-x / 2, static=False)
    yield Row(op="Cast", opset=1, x=x, attributes={"to": "FLOAT"}, expected=x, static=False)
    rows_ = normal(2, 3)
    yield Row(
        op="Gemm", opset=6, x=rows_, rest=(np.eye(3, dtype=np.float32), normal(1)[:1] * 0), attributes={"broadcast": 1}, expected=rows_
    )


def reductions() -> Iterator[Row]:
    ops = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
    x = np.abs(normal(2, 3, 4, 5)) + 0.1
    for short in ops:
        op = f"Reduce{short}"
        for axes, keep in product((None, [1], [2, 3], [-1], [-2, -1], [1, 2, 3]), (None, 0, 1)):
            given = {} if keep is None else {"keepdims": keep}
            listed = {} if axes is None else {"axes": axes}
            negative = axes is not None and min(axes) < 0
            for opset in (1, 11):
                if not (opset == 1 and negative):
                    yield Row(op=op, opset=opset, x=x, attributes=given | listed)
            opset = 13 if op == "ReduceSum" else 18
            yield Row(op=op, opset=opset, x=x, rest=() if axes is None else (whole(*axes),), attributes=given)
        yield Row(op=op, opset=18, x=x, attributes={"noop_with_empty_axes": 1} if op == "ReduceSum" else {})
        if short in ("Sum", "Max", "Min", "Prod", "Mean"):
            ints = np.array([[[-3, 2], [5, -4]]], np.float32)
            yield Row(op=op, opset=18, x=ints, rest=(whole(1),), kind="int32")
    ties = np.array([[1, 3, 3, 2], [5, 0, 0, 5]], np.float32)
    for op in ("ArgMax", "ArgMin"):
        for opset in (6, 11, 12, 13):
            for given in choices(axis=[None, 1, 0] if opset == 6 else [None, 1, -1], keepdims=[None, 0], select_last_index=[None, 1]):
                if opset >= 12 or "select_last_index" not in given:
                    yield Row(op=op, opset=opset, x=ties, attributes=given)
    for opset in (10, 11):
        for given in choices(axis=[None, 1], largest=[None, 0], sorted=[None, 1]):
            if opset == 11 or not {"largest", "sorted"} & given.keys():
                for output in (0, 1):
                    yield Row(op="TopK", opset=opset, x=normal(2, 5), rest=(whole(3),), attributes=given, output=output, outputs=2)
    yield Row(op="TopK", opset=1, x=normal(2, 5, 4), attributes={"k": 2, "axis": 1}, outputs=2)
    yield Row(op="TopK", opset=11, x=ties, rest=(whole(2),), output=1, outputs=2)
    none = np.array([[np.nan, 1, 3, 2], [1, np.nan, 3, 2], [3, 1, 2, np.nan], [np.nan] * 4, [-np.inf, np.nan, -np.inf, 0]], np.float32)
    for given in choices(axis=[0, 1], select_last_index=[0, 1]):
        for op in ("ArgMax", "ArgMin"):
            yield Row(op=op, opset=13, x=none, attributes=given)
    for given in choices(largest=[0, 1]):
        for output in (0, 1):
            yield Row(op="TopK", opset=11, x=none, rest=(whole(3),), attributes=given, output=output, outputs=2)
    for given in choices(axis=[None, 1, -1], p=[None, 1, 2]):
        yield Row(op="LpNormalization", opset=1, x=normal(2, 3, 4), attributes=given)
    for axes in ([2, 3], [1, 2, 3]):
        yield Row(op="MeanVarianceNormalization", opset=13, x=normal(2, 3, 4, 5), attributes={} if axes is None else {"axes": axes})
    for p in (None, 1, 2, 3):
        yield Row(op="GlobalLpPool", opset=2, x=MAP, attributes={} if p is None else {"p": p})
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        for x in (MAP, normal(2, 3, 5), normal(2, 3, 4, 3, 2)):
            yield Row(op=op, opset=1, x=x)


def pooling() -> Iterator[Row]:
    for op, opsets in (("MaxPool", (1, 8, 10, 11, 12, 22)), ("AveragePool", (7, 10, 11, 19, 22)), ("LpPool", (2, 11, 18))):
        for opset in opsets:
            pads = [None, [0, 0, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1]]
            ceil = [None] if (opset < 10 or (op == "LpPool" and opset < 18)) else [None, 1]
            dilated = opset >= {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op]
            for given in choices(
                kernel_shape=[[3, 3], [2, 3]],
                strides=[None, [2, 2], [3, 1]],
                pads=pads,
                ceil_mode=ceil,
                dilations=[None, [2, 1]] if dilated else [None],
                count_include_pad=[None, 1] if op == "AveragePool" and opset >= 7 else [None],
            ):
                # onnxruntime divides by other numbers where rounding up meets padding or dilation, see the interpreter
                yield Row(op=op, opset=opset, x=MAP, attributes=given, static=False, close=1e-4)
            for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
                for strides in ([1, 1], [2, 2]):
                    given = {"kernel_shape": [3, 2], "auto_pad": auto, "strides": strides}
                    yield Row(op=op, opset=opset, x=MAP, attributes=given, static=False, close=1e-4)
        yield Row(op=op, opset=11, x=normal(2, 3, 9), attributes={"kernel_shape": [3], "strides": [2]}, close=1e-4)
        yield Row(op=op, opset=11, x=normal(2, 3, 4, 5, 4), attributes={"kernel_shape": [2, 2, 2], "strides": [2, 1, 2]}, close=1e-4)
    yield Row(op="MaxPool", opset=12, x=MAP, attributes={"kernel_shape": [2, 2], "storage_order": 1}, outputs=1)
    yield Row(op="LpPool", opset=18, x=MAP, attributes={"kernel_shape": [2, 2], "p": 3}, close=1e-4)
    for size in (1, 3, 5):  # onnxruntime takes no even ones
        for given in choices(alpha=[None, 0.3], beta=[None, 0.5], bias=[None, 2.0]):
            yield Row(op="LRN", opset=1, x=normal(2, 6, 3, 3), attributes=given | {"size": size})


def convolutions() -> Iterator[Row]:
    for opset in (1, 11, 22):
        for given in choices(
            strides=[None, [2, 2], [2, 1]], pads=[None, [1, 1, 1, 1], [1, 0, 2, 1]], dilations=[None, [2, 2]], kernel_shape=[None, [3, 2]]
        ):
            yield Row(op="Conv", opset=opset, x=MAP, rest=(normal(5, 4, 3, 2), normal(5)), attributes=given, static=False)
        for auto, strides in product(("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"), (None, [2, 3])):
            given = {"auto_pad": auto} | ({} if strides is None else {"strides": strides})
            yield Row(op="Conv", opset=opset, x=MAP, rest=(normal(5, 4, 3, 2),), attributes=given, static=False)
        yield Row(op="Conv", opset=opset, x=MAP, rest=(normal(8, 1, 3, 3),), attributes={"group": 4}, static=False)
        yield Row(op="Conv", opset=opset, x=normal(2, 3, 9), rest=(normal(4, 3, 3), normal(4)), attributes={"pads": [1, 1]}, static=False)
        yield Row(op="Conv", opset=opset, x=normal(2, 2, 4, 5, 4), rest=(normal(3, 2, 2, 2, 2),), static=False)
        for given in choices(
            strides=[None, [2, 2], [2, 3]],
            pads=[None, [1, 1, 1, 1], [1, 0, 0, 1]],
            output_padding=[None, [1, 0]],
            dilations=[None, [2, 1]],
        ):
            if "output_padding" in given and ("strides" not in given or "dilations" in given):
                continue
            yield Row(
                op="ConvTranspose", opset=opset, x=MAP, rest=(normal(4, 3, 3, 3), normal(3)), attributes=given, static=False, close=1e-4
            )
        for given in choices(auto_pad=["SAME_UPPER", "SAME_LOWER", "VALID"], strides=[[1, 1], [2, 2], [3, 2]]):
            yield Row(op="ConvTranspose", opset=opset, x=MAP, rest=(normal(4, 3, 3, 3),), attributes=given, static=False, close=1e-4)
        for shape, auto in product(([14, 12], [15, 13], [16, 12]), (None, "SAME_UPPER", "SAME_LOWER")):
            given = {"output_shape": shape, "strides": [2, 2]} | ({} if auto is None else {"auto_pad": auto})
            yield Row(op="ConvTranspose", opset=opset, x=MAP, rest=(normal(4, 3, 3, 3),), attributes=given, static=False, close=1e-4)
        given = {"group": 2, "kernel_shape": [3, 3]}
        yield Row(op="ConvTranspose", opset=opset, x=MAP, rest=(normal(4, 3, 3, 3),), attributes=given, static=False, close=1e-4)
    for opset in (7, 9, 11, 13):
        for given in choices(transB=[None, 1], alpha=[None, 0.5], beta=[None, 0.0, 2.0]):
            b = normal(4, 3) if given.get("transB") else normal(3, 4)
            for c in (normal(4), normal(1), normal(1, 4), np.array(0.3, np.float32)):
                yield Row(op="Gemm", opset=opset, x=normal(2, 3), rest=(b, c), attributes=given)
        yield Row(op="Gemm", opset=opset, x=normal(3, 2), rest=(normal(3, 4), normal(4)), attributes={"transA": 1}, static=True)
    yield Row(op="Gemm", opset=11, x=normal(2, 3), rest=(normal(3, 4),))
    for a, b in (((2, 3), (3, 4)), ((2, 3, 4), (4, 5)), ((2, 2, 3, 4), (2, 4, 3)), ((2, 3), (3,)), ((2, 3, 4), (4,))):
        yield Row(op="MatMul", opset=13, x=normal(*a), rest=(normal(*b),))
    yield Row(op="MatMul", opset=9, x=normal(3, 4), rest=(normal(2, 3),), place=1)
    yield Row(op="MatMul", opset=9, x=normal(3, 4), rest=(normal(3),), place=1)
    for equation, a, b in (
        ("bij,jk->bik", (2, 3, 4), (4, 5)),
        ("b i j, j k -> b i k", (2, 3, 4), (4, 5)),
        ("...ij,jk->...ik", (2, 2, 3, 4), (4, 5)),
        ("bc,oc->bo", (2, 3), (4, 3)),
        ("bc,oc", (2, 3), (4, 3)),
        ("bchw,oc->bohw", (2, 3, 2, 2), (4, 3)),
    ):
        yield Row(op="Einsum", opset=12, x=normal(*a), rest=(normal(*b),), attributes={"equation": equation})
    yield Row(op="Einsum", opset=12, x=normal(2, 3, 4), attributes={"equation": "bij->bji"})


def normalisations() -> Iterator[Row]:
    c = (normal(4), normal(4))
    statistics = (normal(4), np.abs(normal(4)) + 0.5)
    for opset in (7, 9, 14, 15):
        for given in choices(epsilon=[None, 1e-2], momentum=[None, 0.5]):
            yield Row(op="BatchNormalization", opset=opset, x=MAP, rest=(*c, *statistics), attributes=given)
        yield Row(op="BatchNormalization", opset=opset, x=normal(2, 4), rest=(*c, *statistics))
    for opset in (6, 22):
        yield Row(op="InstanceNormalization", opset=opset, x=MAP, rest=c, attributes={"epsilon": 1e-3})
        yield Row(op="InstanceNormalization", opset=opset, x=normal(2, 4, 5), rest=c)
    for axis, shape in ((None, (6,)), (-1, (6,)), (-2, (7, 6)), (1, (4, 7, 6)), (2, (7, 6)), (-1, (1,))):
        given = ({} if axis is None else {"axis": axis}) | {"epsilon": 1e-3}
        yield Row(op="LayerNormalization", opset=17, x=MAP, rest=(normal(*shape), normal(*shape)), attributes=given)
        yield Row(op="LayerNormalization", opset=17, x=MAP, rest=(normal(*shape),), attributes=given)
        yield Row(op="RMSNormalization", opset=23, x=MAP, rest=(normal(*shape),), attributes=given)
    for opset, size in ((18, 2), (21, 4)):
        for given in choices(num_groups=[2], epsilon=[None, 1e-2]):
            yield Row(op="GroupNormalization", opset=opset, x=MAP, rest=(normal(size), normal(size)), attributes=given)


def resizing() -> Iterator[Row]:
    places = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn", "half_pixel_symmetric")
    factors = ([1, 1, 2, 2], [1, 1, 0.5, 0.5], [1, 1, 1.5, 0.7], [1, 1, 0.6, 1.3], [1, 1, 3, 1], [1, 1, 0.2, 0.3])
    x = normal(2, 2, 8, 6)
    for opset in (11, 13, 18, 19):
        for where, scales in product(places, factors):
            if (where == "half_pixel_symmetric" and opset < 19) or (where == "tf_half_pixel_for_nn" and opset > 11):
                continue
            none = np.zeros(0, np.float32) if opset < 13 else None  # opset 11 wants a region
            rest = (none, np.array(scales, np.float32))
            given = {"coordinate_transformation_mode": where}
            for mode in ("linear", "cubic"):
                yield Row(op="Resize", opset=opset, x=x, rest=rest, attributes=given | {"mode": mode}, close=1e-4, static=False)
            for rounding in (None, "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
                own = given | {"mode": "nearest"} | ({} if rounding is None else {"nearest_mode": rounding})
                yield Row(op="Resize", opset=opset, x=x, rest=rest, attributes=own, static=False)
        for sizes in ([2, 2, 5, 9], [2, 2, 16, 12], [2, 2, 3, 3], [2, 2, 1, 1]):
            for where, mode in product(("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"), ("linear", "nearest", "cubic")):
                given = {"coordinate_transformation_mode": where, "mode": mode}
                none = np.zeros(0, np.float32) if opset < 13 else None
                rest = (none, none, whole(*sizes))
                yield Row(op="Resize", opset=opset, x=x, rest=rest, attributes=given, close=1e-4, static=False)
        for extra in ({"cubic_coeff_a": -0.5}, {"exclude_outside": 1}, {"cubic_coeff_a": -0.5, "exclude_outside": 1}):
            for scales in factors:
                given = {"mode": "cubic"} | extra
                rest = (np.zeros(0, np.float32), np.array(scales, np.float32))
                yield Row(op="Resize", opset=opset, x=x, rest=rest, attributes=given, close=1e-4, static=False)
        for roi in ([0, 0, 0.1, 0.2, 1, 1, 0.9, 0.7], [0, 0, -0.2, 0, 1, 1, 1.3, 1]):
            for mode in ("linear", "nearest"):
                given = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.0}
                rest = (np.array(roi, np.float32), np.zeros(0, np.float32), whole(2, 2, 5, 7))
                yield Row(op="Resize", opset=opset, x=x, rest=rest, attributes=given, close=1e-4, static=False)
    for opset in (18, 19):
        for mode, factor in product(("linear", "cubic"), (0.5, 0.7, 1.5)):
            for extra in ({}, {"antialias": 1}, {"antialias": 1, "exclude_outside": 1}):
                given = {"mode": mode, "axes": [2, 3]} | extra
                rest = (None, np.array([factor, factor], np.float32))
                yield Row(op="Resize", opset=opset, x=x, rest=rest, attributes=given, close=1e-4, static=False)
        for policy in ("stretch", "not_larger", "not_smaller"):
            for axes, sizes in (([2, 3], [5, 5]), ([3, 2], [9, 20]), ([2, 3], [4, 4])):
                given = {"mode": "linear", "axes": axes, "keep_aspect_ratio_policy": policy}
                yield Row(op="Resize", opset=opset, x=x, rest=(None, None, whole(*sizes)), attributes=given, close=1e-4, static=False)
    yield Row(op="Resize", opset=10, x=x, rest=(np.array([1, 1, 2, 2], np.float32),), attributes={"mode": "linear"}, close=1e-4)
    yield Row(op="Resize", opset=10, x=x, rest=(np.array([1, 1, 0.6, 2], np.float32),), attributes={"mode": "nearest"})
    channels_last = normal(2, 6, 8, 3)
    for mode in ("linear", "nearest"):
        rest = (None, np.array([1, 0.5, 1.5, 1], np.float32))
        yield Row(op="Resize", opset=13, x=channels_last, rest=rest, attributes={"mode": mode}, close=1e-4)
    for mode in ("nearest", "linear"):
        scales = [1.0, 1.0, 2.0, 3.0]
        yield Row(op="Upsample", opset=7, x=x, attributes={"mode": mode, "scales": scales}, close=1e-4)
        yield Row(op="Upsample", opset=9, x=x, rest=(np.array(scales, np.float32),), attributes={"mode": mode}, close=1e-4)


def shapes() -> Iterator[Row]:
    x = normal(2, 3, 4, 5)
    for target in ([0, -1], [2, 60], [0, 0, 20], [-1, 5], [2, 3, 20, 1], [1, 2, -1]):
        for opset in (5, 13, 14):
            yield Row(op="Reshape", opset=opset, x=x, rest=(whole(*target),))
    for axis in (None, 0, 1, 2, 3, 4, -1):
        yield Row(op="Flatten", opset=11, x=x, attributes={} if axis is None else {"axis": axis})
    for perm in (None, [0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2]):
        yield Row(op="Transpose", opset=13, x=x, attributes={} if perm is None else {"perm": perm})
    ones = normal(2, 1, 4, 1)
    yield Row(op="Squeeze", opset=1, x=ones, attributes={"axes": [1, 3]})
    yield Row(op="Squeeze", opset=11, x=ones, attributes={"axes": [-1]})
    yield Row(op="Squeeze", opset=13, x=ones, rest=(whole(1),))
    yield Row(op="Squeeze", opset=13, x=ones)
    yield Row(op="Squeeze", opset=1, x=ones)
    yield Row(op="Unsqueeze", opset=1, x=x, attributes={"axes": [1, 5]})
    yield Row(op="Unsqueeze", opset=11, x=x, attributes={"axes": [-1, 0]})
    yield Row(op="Unsqueeze", opset=13, x=x, rest=(whole(1, -1),))
    for axis in (1, 2, -1):
        yield Row(op="Concat", opset=13, x=x, rest=(x[:1].repeat(2, 0),), attributes={"axis": axis})
    for opset, rest, given in (
        (2, (), {"axis": 1, "split": [1, 2]}),
        (11, (), {"axis": -1, "split": [1, 4]}),
        (13, (whole(1, 2),), {"axis": 1}),
        (13, (), {"axis": 2}),
        (18, (), {"axis": 3, "num_outputs": 2}),
        (18, (whole(2, 3),), {"axis": 3}),
    ):
        for output in (0, 1):
            yield Row(op="Split", opset=opset, x=x, rest=rest, attributes=given, output=output, outputs=2)
    for given in (
        {"starts": [1], "ends": [3]},
        {"starts": [0, 1], "ends": [2, -1], "axes": [1, 3]},
        {"starts": [-3], "ends": [1000], "axes": [2]},
    ):
        yield Row(op="Slice", opset=1, x=x, attributes=given if "axes" in given else given | {"axes": [2]})
    big, small = 2**63 - 1, -(2**63) + 1
    for start, end, step in (
        (0, big, 1),
        (1, 4, 2),
        (-1, small, -1),
        (4, 0, -1),
        (3, -5, -2),
        (-1, -(2**31), -1),
        (-2, 1, -1),
        (0, 3, 1),
        (10, -10, -1),
        (1, -1, 1),
        (4, 1, 1),
    ):
        for opset in (10, 13):
            yield Row(op="Slice", opset=opset, x=x, rest=(whole(start), whole(end), whole(3), whole(step)))
    yield Row(op="Slice", opset=10, x=x, rest=(whole(1, 0), whole(3, 2), whole(-2, 3)))
    for axis, index in ((1, [2, 0]), (-1, [-1, 1]), (2, [[0, 1], [2, 3]]), (3, 1), (3, -1)):
        yield Row(op="Gather", opset=13, x=x, rest=(np.array(index, np.int64),), attributes={"axis": axis})
    yield Row(
        op="GatherElements", opset=13, x=normal(2, 3), rest=(np.array([[0, 2], [-1, 1]], np.int64),), attributes={"axis": 1}, static=True
    )
    yield Row(op="GatherND", opset=12, x=normal(2, 3, 4), rest=(np.array([[0, 1], [1, -1]], np.int64),))
    yield Row(op="GatherND", opset=12, x=normal(2, 3, 4), rest=(np.array([[[1]], [[2]]], np.int64),), attributes={"batch_dims": 1})
    for opset, reductions_ in ((11, [None]), (16, [None, "none", "add", "mul"]), (18, ["max", "min"])):
        for given in choices(axis=[None, 1], reduction=reductions_):
            index, values = np.array([[0, 1, 0], [1, 0, -1]], np.int64), normal(2, 3)
            if given.get("reduction") in (None, "none"):
                index = np.array([[0, 1, 0], [1, 0, 1]], np.int64) if "axis" not in given else np.array([[0, 1, 2], [2, 1, 0]], np.int64)
            yield Row(op="ScatterElements", opset=opset, x=normal(2, 3), rest=(index, values), attributes=given)
    for opset, reduction in ((11, None), (16, None), (16, "add")):
        given = {} if reduction is None else {"reduction": reduction}
        yield Row(op="ScatterND", opset=opset, x=normal(4, 3), rest=(np.array([[0], [2]], np.int64), normal(2, 3)), attributes=given)
    yield Row(op="Expand", opset=13, x=normal(2, 1, 4), rest=(whole(1, 3, 4),))
    yield Row(op="Expand", opset=8, x=normal(2, 1, 4), rest=(whole(1, 1, 1),))
    yield Row(op="Tile", opset=13, x=normal(2, 3), rest=(whole(1, 2),))
    yield Row(op="Tile", opset=6, x=normal(2, 3), rest=(whole(2, 2),))
    for opset, pads in ((2, None), (11, True), (13, True), (18, True)):
        for mode in ("constant", "reflect", "edge"):
            for amounts in ([0, 0, 1, 2, 0, 0, 2, 1], [0, 1, 0, 0, 0, 1, 0, 2], [0, 0, 0, 1, 0, 0, 0, 0], [0, 0, -1, 0, 0, 0, 0, 0]):
                if mode != "constant" and min(amounts) < 0:
                    continue
                given: dict[str, Any] = {"mode": mode}
                if pads is None:
                    yield Row(op="Pad", opset=opset, x=x, attributes=given | {"pads": amounts, "value": 1.5})
                else:
                    yield Row(op="Pad", opset=opset, x=x, rest=(whole(*amounts), number(1.5)), attributes=given)
    yield Row(op="Pad", opset=18, x=x, rest=(whole(1, 2, 0, 1), None, whole(-1, 2)))
    yield Row(op="Pad", opset=19, x=x, rest=(whole(0, 0, 3, 1, 0, 0, 2, 7),), attributes={"mode": "wrap"})
    yield Row(op="Pad", opset=13, x=x, rest=(whole(0, 0, 3, 1, 0, 0, 2, 3),), attributes={"mode": "reflect"})
    for op in ("DepthToSpace", "SpaceToDepth"):
        for mode in (None, "DCR", "CRD") if op == "DepthToSpace" else (None,):
            given = {"blocksize": 2} | ({} if mode is None else {"mode": mode})
            yield Row(op=op, opset=13, x=normal(2, 8, 4, 6), attributes=given)
    for given, k in product(({}, {"upper": 0}, {"upper": 1}), (None, 1, -1)):
        yield Row(op="Trilu", opset=14, x=normal(2, 4, 4), rest=() if k is None else (np.array(k, np.int64),), attributes=given)
    for start, end in ((None, None), (1, None), (-2, None), (0, -1), (1, 3)):
        given = {key: v for key, v in (("start", start), ("end", end)) if v is not None}
        yield Row(op="Shape", opset=15, x=x, attributes=given)
    yield Row(op="Size", opset=13, x=x)
    yield Row(op="CenterCropPad", opset=18, x=x, rest=(whole(2, 7),), attributes={"axes": [2, 3]})
    yield Row(op="CenterCropPad", opset=18, x=x, rest=(whole(2, 3, 3, 8),))
    yield Row(op="Identity", opset=13, x=x)
    yield Row(op="Dropout", opset=7, x=x, attributes={"ratio": 0.3})
    yield Row(op="Dropout", opset=12, x=x, rest=(number(0.3),), outputs=1)
    for kind in ("int32", "int64", "uint8", "int8", "float32", "float64", "bool"):
        numbers = np.array([[0, 1.7, 2.5, 100.9, 0.3]] if kind in ("uint8", "bool") else [[-1.7, 1.7, -2.5, 100.9, 0]], np.float32)
        yield Row(op="Cast", opset=13, x=numbers, attributes={"to": TYPES[kind]})
        yield Row(op="Cast", opset=9, x=numbers, kind="int32", attributes={"to": TYPES[kind]})
    yield Row(op="CastLike", opset=15, x=np.array([[1.5, -1.5]], np.float32), rest=(np.array(1, np.int32),))
    yield Row(op="CastLike", opset=15, x=np.array([[1.5, -1.5]], np.float32), rest=(number(1),))


TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float64": 11}


def indices() -> Iterator[Row]:
    for axis in (None, 0, 1, -1):
        given = {} if axis is None else {"axis": axis}
        x = np.array([[0, 2, -1], [1, 0, 2]], np.float32)
        rest = (np.array(3, np.int64), np.array([0.5, 2], np.float32))
        yield Row(op="OneHot", opset=11, x=x, rest=rest, attributes=given, kind="int64")
    yield Row(op="Compress", opset=11, x=normal(2, 4), rest=(np.array([True, False, True, False]),), attributes={"axis": 1})
    for kind in (None, 1, 7):
        for k in (None, 1, -1):
            given = {key: value for key, value in (("dtype", kind), ("k", k)) if value is not None}
            yield Row(op="EyeLike", opset=9, x=np.zeros((3, 4), np.float32), attributes=given)
    grid = np.tanh(normal(2, 4, 5, 2)) * 1.3
    for opset, modes in ((16, ("bilinear", "nearest", "bicubic")), (20, ("linear", "nearest", "cubic"))):
        for mode, padding, corners in product(modes, ("zeros", "border", "reflection"), (0, 1)):
            if mode in ("bicubic", "cubic") and padding == "border":
                continue
            given = {"mode": mode, "padding_mode": padding, "align_corners": corners}
            yield Row(op="GridSample", opset=opset, x=normal(2, 3, 6, 7), rest=(grid,), attributes=given, close=1e-4, static=False)
    theta = normal(2, 2, 3)
    for corners in (None, 0, 1):
        given = {} if corners is None else {"align_corners": corners}
        yield Row(op="AffineGrid", opset=20, x=theta, rest=(whole(2, 3, 4, 5),), attributes=given)
    yield Row(op="Det", opset=11, x=normal(2, 3, 3), close=1e-4)


def recurrent() -> Iterator[Row]:
    x = normal(5, 2, 3)
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for opset in (7, 14):
            for direction, before, given_bias in product(("forward", "reverse", "bidirectional"), (0, 1), (True, False)):
                count = 2 if direction == "bidirectional" else 1
                given: dict[str, Any] = {"hidden_size": 4, "direction": direction}
                if op == "GRU":
                    given["linear_before_reset"] = before
                elif before:
                    continue
                rest = (normal(count, gates * 4, 3), normal(count, gates * 4, 4), normal(count, 8 * gates) if given_bias else None)
                for output in range(3 if op == "LSTM" else 2):
                    yield Row(
                        op=op,
                        opset=opset,
                        x=x,
                        rest=rest,
                        attributes=given,
                        output=output,
                        outputs=3 if op == "LSTM" else 2,
                        static=False,
                        close=1e-4,
                    )


def attention() -> Iterator[Row]:
    q = normal(2, 2, 5, 4)
    for given in choices(is_causal=[None, 1], scale=[None, 0.3]):
        yield Row(op="Attention", opset=23, x=q, rest=(normal(2, 2, 5, 4), normal(2, 2, 5, 4)), attributes=given, close=1e-4, static=False)
    given = {"q_num_heads": 2, "kv_num_heads": 2}
    yield Row(
        op="Attention", opset=23, x=normal(2, 5, 8), rest=(normal(2, 6, 8), normal(2, 6, 8)), attributes=given, close=1e-4, static=False
    )
    mask = np.array(normal(5, 6) > 0)
    mask[:, 0] = True
    yield Row(op="Attention", opset=23, x=normal(2, 2, 5, 4), rest=(normal(2, 2, 6, 4), normal(2, 2, 6, 4), mask), close=1e-4, static=False)


def microsoft() -> Iterator[Row]:
    """What onnxruntime's optimiser makes."""
    ms = {"domain": "com.microsoft", "opset": 1, "static": False, "close": 1e-4}
    wide = 2 * normal(2, 3, 8)
    for activation, parameters in (
        ("Relu", None),
        ("Sigmoid", None),
        ("Tanh", None),
        ("LeakyRelu", [0.2]),
        ("Clip", [0.0, 1.0]),
        ("HardSigmoid", [0.3, 0.4]),
    ):
        given = {"activation": activation, "pads": [1, 1, 1, 1]} | ({} if parameters is None else {"activation_params": parameters})
        yield Row(op="FusedConv", x=MAP, rest=(normal(5, 4, 3, 3), normal(5)), attributes=given, **ms)
    given = {"activation": "Relu", "pads": [1, 1, 1, 1]}
    yield Row(op="FusedConv", x=MAP, rest=(normal(5, 4, 3, 3), normal(5), normal(2, 5, 7, 6)), attributes=given, **ms)
    for activation in ("Relu", "Tanh"):
        given = {"activation": activation, "transB": 1}
        yield Row(op="FusedGemm", x=normal(2, 3), rest=(normal(4, 3), normal(4)), attributes=given, **ms)
    yield Row(
        op="FusedGemm",
        x=normal(2, 3),
        rest=(normal(3, 4), normal(4)),
        attributes={"activation": "LeakyRelu", "activation_alpha": 0.2},
        **ms,
    )
    for given in choices(alpha=[None, 0.5], transB=[None, 1]):
        yield Row(
            op="FusedMatMul", x=normal(2, 3, 4), rest=(normal(5, 4) if given.get("transB") else normal(4, 5),), attributes=given, **ms
        )
        b = normal(2, 5, 4) if given.get("transB") else normal(2, 4, 5)
        yield Row(op="FusedMatMul", x=normal(2, 3, 4), rest=(b,), attributes=given, **ms)
    yield Row(op="Gelu", x=wide, **ms)
    yield Row(op="QuickGelu", x=wide, **ms)
    yield Row(op="QuickGelu", x=wide, attributes={"alpha": 1.2}, **ms)
    yield Row(op="FastGelu", x=wide, **ms)
    yield Row(op="FastGelu", x=wide, rest=(normal(8),), **ms)
    yield Row(op="BiasGelu", x=wide, rest=(normal(8),), **ms)
    yield Row(op="SkipLayerNormalization", x=wide, rest=(normal(2, 3, 8), normal(8), normal(8)), attributes={"epsilon": 1e-4}, **ms)
    yield Row(op="SkipLayerNormalization", x=wide, rest=(normal(2, 3, 8), normal(8), normal(8), normal(8)), **ms)
    yield Row(op="SkipLayerNormalization", x=wide, rest=(normal(2, 3, 8), normal(8), normal(8), normal(8)), output=3, outputs=4, **ms)
    yield Row(op="SkipSimplifiedLayerNormalization", x=wide, rest=(normal(2, 3, 8), normal(8)), **ms)
    yield Row(op="Attention", x=wide, rest=(normal(8, 24), normal(24)), attributes={"num_heads": 2}, **ms)
    yield Row(op="MultiHeadAttention", x=wide, rest=(normal(2, 4, 8), normal(2, 4, 8)), attributes={"num_heads": 2}, **ms)
    yield Row(op="MultiHeadAttention", x=wide, rest=(normal(2, 4, 8), normal(2, 4, 8), normal(24)), attributes={"num_heads": 2}, **ms)


def rows() -> list[Row]:
    """All of them."""
    groups = (
        unary,
        binary,
        old_broadcast,
        reductions,
        pooling,
        convolutions,
        normalisations,
        resizing,
        shapes,
        indices,
        recurrent,
        attention,
        microsoft,
    )
    return [row for group in groups for row in group()]
