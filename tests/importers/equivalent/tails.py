"""Forms that differ behind the logits."""

from onnx import TensorProto

from tests.importers.equivalent.form import Form, onnx_form
from tests.importers.equivalent.surgery import node, tail

FORMS: dict[str, Form] = {
    "plain": onnx_form(lambda m: None, stripped=()),
    "softmax": onnx_form(lambda m: tail(m, node("Softmax", ["raw"], ["p"], axis=1)), stripped=("Softmax",)),
    "argmax": onnx_form(
        lambda m: tail(m, node("ArgMax", ["raw"], ["label"], axis=1, keepdims=0), sizes=["batch"], kind=TensorProto.INT64),
        stripped=("ArgMax",),
    ),
}
