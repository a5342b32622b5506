"""What depends on the pixels, and how far it is from them and from the logits."""

import math

import numpy as np
import onnx
import pytest

from banscan.importers.structure.bounds import bounds
from banscan.importers.structure.flow import Flow, flow
from tests.importers.equivalent.network import graph
from tests.importers.equivalent.surgery import node


def of(*nodes: onnx.NodeProto, output: str) -> Flow:
    return flow(nodes, "image", output)


def test_a_plain_network() -> None:
    found = flow(list(graph().graph.node), "image", "logits")
    assert (found.shortest, found.longest) == (3, 4)
    assert (found.before["map"], found.after["map"]) == (2, 1)
    assert not any(found.beside(t) for t in found.depends)


def test_sizes_are_no_pixels_unless_pixels_decide_on_them() -> None:
    sizes = of(node("Shape", ["image"], ["s"]), node("Cast", ["s"], ["y"], to=1), output="y")
    assert sizes.shortest is None
    counted = of(node("NonZero", ["image"], ["n"]), node("Shape", ["n"], ["s"]), node("Cast", ["s"], ["y"], to=1), output="y")
    assert counted.shortest == 0


def test_what_branches_read_counts() -> None:
    branch = onnx.helper.make_graph([node("Neg", ["image"], ["m"])], "b", [], [onnx.helper.make_tensor_value_info("m", 1, None)])
    found = of(onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch), output="y")
    assert "y" in found.depends


def test_products_of_two_tensors_of_pixels_have_no_weights() -> None:
    found = of(node("MatMul", ["image", "w"], ["a"]), node("MatMul", ["a", "image"], ["y"]), output="y")
    assert (found.shortest, found.longest) == (0, 1)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Mul", ["image", "two"], ["y"])], (0.0, 2.0)),
        ([node("Sub", ["image", "two"], ["a"]), node("Relu", ["a"], ["y"])], (0.0, 0.0)),
        ([node("Greater", ["image", "two"], ["y"])], (0.0, 0.0)),
        ([node("Less", ["image", "two"], ["y"])], (1.0, 1.0)),
        ([node("IsNaN", ["image"], ["y"])], (0.0, 0.0)),
        ([node("Log", ["image"], ["a"]), node("IsNaN", ["a"], ["y"])], (0.0, 1.0)),
        ([node("MatMul", ["image", "matrix"], ["y"])], (-2.0, 3.0)),
        ([node("Log", ["image"], ["y"])], (-math.inf, math.inf)),
        ([node("Sub", ["image", "two"], ["a"]), node("Mul", ["a", "a"], ["y"])], (1.0, 4.0)),
        ([node("Pow", ["image", "two"], ["y"])], (0.0, 1.0)),
    ],
)
def test_bounds(nodes: list[onnx.NodeProto], expected: tuple[float, float]) -> None:
    constants = {"two": np.float32(2), "matrix": np.array([[1, -2], [2, 0]], np.float32)}
    assert bounds(of(*nodes, output="y"), (0.0, 1.0), constants, "image")["y"] == expected
