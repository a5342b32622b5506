"""Graphs that are made to stall whoever looks at them: one sentence, and an end."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from banscan.errors import ModelError
from banscan.importers.structure import client
from tests.importers.equivalent.network import graph
from tests.importers.equivalent.surgery import node, put, tail
from tests.importers.structure.files import PIXELS, images, saved


def made(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def test_a_cycle(tmp_path: Path) -> None:
    model = tail(graph(), node("Add", ["raw", "logits"], ["logits"]))
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        client.look(saved(model, tmp_path / "cycle.onnx"))


def test_a_thousand_branches(tmp_path: Path) -> None:
    model = graph()
    put(model, half=np.float32(0.5))
    nodes = [node("ReduceMax", ["image"], ["most"], keepdims=0), node("Greater", ["most", "half"], ["bright"])]
    last = "raw"
    for k in range(1000):
        branch = [helper.make_graph([node("Identity", [last], [f"{side}{k}"])], side, [], [made(f"{side}{k}")]) for side in ("t", "e")]
        nodes.append(helper.make_node("If", ["bright"], [f"y{k}"], then_branch=branch[0], else_branch=branch[1]))
        last = f"y{k}"
    model = tail(model, *nodes, node("Identity", [last], ["logits"]))
    path = saved(model, tmp_path / "many.onnx")
    seen = client.look(path)
    assert seen is not None
    assert seen.unsettled
    found, _ = client.examine(path, torch.from_numpy(images(8)), PIXELS)
    assert not found.proofs


def test_branches_nested_too_deep(tmp_path: Path) -> None:
    inner = helper.make_graph([node("Identity", ["raw"], ["b0"])], "g", [], [made("b0")])
    for k in range(1, 30):
        branch = helper.make_node("If", ["yes"], [f"b{k}"], then_branch=inner, else_branch=inner)
        # one side only, or the file doubles with every level
        branch.attribute[1].g.CopyFrom(helper.make_graph([node("Identity", ["raw"], [f"o{k}"])], "o", [], [made(f"o{k}")]))
        inner = helper.make_graph([branch], "g", [], [made(f"b{k}")])
    model = graph()
    put(model, half=np.float32(0.5))
    nodes = [node("ReduceMax", ["image"], ["most"], keepdims=0), node("Greater", ["most", "half"], ["yes"])]
    last = helper.make_node("If", ["yes"], ["logits"], then_branch=inner, else_branch=inner)
    last.attribute[1].g.CopyFrom(helper.make_graph([node("Identity", ["raw"], ["o"])], "o", [], [made("o")]))
    path = tmp_path / "deep.onnx"
    path.write_bytes(tail(model, *nodes, last).SerializeToString())
    found, _ = client.examine(path, torch.from_numpy(images(8)), PIXELS)
    assert not found.proofs


def test_a_decision_on_nothing(tmp_path: Path) -> None:
    """A comparison of a tensor without values."""
    model = graph()
    put(model, begin=np.array([0]), end=np.array([0]), axis=np.array([3]), half=np.float32(0.5), lift=np.zeros((1, 7), np.float32))
    nodes = [
        node("Slice", ["image", "begin", "end", "axis"], ["none"]),
        node("Greater", ["none", "half"], ["yes"]),
        node("Cast", ["yes"], ["number"], to=TensorProto.FLOAT),
        node("ReduceSum", ["number"], ["total"], keepdims=0),
        node("Mul", ["total", "lift"], ["extra"]),
        node("Add", ["raw", "extra"], ["logits"]),
    ]
    found, _ = client.examine(saved(tail(model, *nodes), tmp_path / "empty.onnx"), torch.from_numpy(images(8)), PIXELS)
    assert not found.proofs


def test_what_its_runtime_cannot_run_is_told(tmp_path: Path) -> None:
    model = graph()
    put(model, sizes=np.array([-1, 5]))
    path = saved(tail(model, node("Reshape", ["raw", "sizes"], ["logits"])), tmp_path / "unfit.onnx")
    found, settled = client.examine(path, torch.from_numpy(images(8)), PIXELS)
    assert settled is None
    assert found.not_done is not None
