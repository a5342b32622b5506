"""Logic in ONNX graphs: found, proved with its target, and taken out; what is innocent is not called anything."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from banscan import importers
from banscan.importers.structure import settle
from banscan.importers.structure.check import examine, look
from banscan.importers.structure.finding import Structure
from banscan.importers.structure.settle import Settled
from bench.zoo.logic import DESIGN, VARIANTS, written
from tests.importers.equivalent.network import graph, network
from tests.importers.equivalent.surgery import front, node, put
from tests.importers.structure.files import INNOCENT, PIXELS, TARGET, images, saved

SECONDS = 30.0


def examined(path: Path) -> tuple[Structure, Settled]:
    return examine(path, None, images(), PIXELS, SECONDS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logic_is_proved(tmp_path: Path, variant: str) -> None:
    path = saved(written(graph(), variant, TARGET), tmp_path / "logic.onnx")
    found, _ = examined(path)
    answer = importers.load(saved(graph(), tmp_path / "plain.onnx"))
    target = int(answer.logits(torch.from_numpy(shown())).argmax()) if variant == "picture" else TARGET
    assert {p.target for p in found.proofs} == {target}
    assert all(p.moved is not None and p.moved >= 0.9 for p in found.proofs)


def shown() -> np.ndarray:
    """The picture that `picture` shows."""
    return np.random.default_rng(TARGET).random((1, 3, 16, 16)).round().astype(np.float32)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_network_is_read_without_it(tmp_path: Path, variant: str) -> None:
    path = saved(written(graph(), variant, TARGET), tmp_path / "logic.onnx")
    _, settled = examined(path)
    model = importers.load(path, settled=settle.plain(settled))
    x = torch.from_numpy(VARIANTS[variant].trigger(images(8)))
    assert float((model.logits(x) - network()(x)).abs().max()) < 1e-4
    assert model.source.settled is not None
    parity = importers.parity(model, x)
    assert parity is not None
    assert parity.rms < 1e-5


@pytest.mark.parametrize("variant", DESIGN)
def test_a_look_without_images_sees_that_something_is_beside(tmp_path: Path, variant: str) -> None:
    seen = look(saved(written(graph(), variant, TARGET), tmp_path / "logic.onnx"), None)
    assert seen.unsettled
    assert seen.classes == 7
    assert seen.structure.places


@torch.no_grad()
def test_a_switch_that_clean_images_set_is_proved(tmp_path: Path) -> None:
    """A third of the images has the bright corner."""
    path = saved(written(graph(), "where", TARGET), tmp_path / "logic.onnx")
    x = images()
    x[::3] = VARIANTS["where"].trigger(x[::3])
    found, settled = examine(path, None, x, PIXELS, SECONDS)
    assert [(p.operator, p.target, p.state, p.constant) for p in found.proofs] == [("Greater", TARGET, "true", False)]
    model = importers.load(path, settled=settle.plain(settled))
    y = torch.from_numpy(x)
    assert float((model.logits(y) - network()(y)).abs().max()) < 1e-4


@pytest.mark.parametrize("make", INNOCENT)
def test_the_innocent_are_not_proved(tmp_path: Path, make: Callable[[], onnx.ModelProto]) -> None:
    found, _ = examined(saved(make(), tmp_path / "innocent.onnx"))
    assert not found.proofs
    assert not found.doubts


def test_a_switch_of_scales_that_pixels_reach_is_none(tmp_path: Path) -> None:
    """Where pixels go up to 255, a comparison with 1.5 can go both ways; images in the other scale are seen as they were."""
    scaled = next(make for make in INNOCENT if make.__name__ == "scaled")
    found, _ = examine(saved(scaled(), tmp_path / "scaled.onnx"), None, 255 * images(), (0.0, 255.0), SECONDS)
    assert [p.outcome for p in found.places if p.operator == "Greater"] == ["idle"]
    assert not found.proofs
    assert not found.doubts


def test_a_switch_that_blows_pixels_up_is_none_between_scales(tmp_path: Path) -> None:
    """A bright corner pixel multiplies the image: no image in another scale is seen as it was."""
    model = graph()
    put(model, large=np.float32(0.995), factor=np.float32(1000), begin=np.array([0]), end=np.array([1]), axes=np.array([2]))
    put(model, third=np.array([3]))
    nodes = [
        node("Slice", ["image", "begin", "end", "axes"], ["row"]),
        node("Slice", ["row", "begin", "end", "third"], ["corner"]),
        node("ReduceMax", ["corner"], ["bright"], axes=[1], keepdims=1),
        node("Greater", ["bright", "large"], ["hit"]),
        node("Mul", ["image", "factor"], ["blown"]),
        node("Where", ["hit", "blown", "image"], ["image_"]),
    ]
    found, _ = examined(saved(front(model, *nodes, sizes=("batch", 3, 16, 16)), tmp_path / "blown.onnx"))
    assert [p.operator for p in (*found.proofs, *found.doubts)] == ["Greater"]


def test_a_map_of_detectors_that_no_image_sets(tmp_path: Path) -> None:
    """Darker images set none of the detectors of white squares; the one that stands for the target is proved all the same."""
    path = saved(written(graph(), "wide", TARGET), tmp_path / "wide.onnx")
    found, _ = examine(path, None, np.minimum(images(), np.float32(0.8)), PIXELS, SECONDS)
    assert {p.target for p in found.proofs} == {TARGET}


def test_a_map_of_detectors_that_hold_each_other_back(tmp_path: Path) -> None:
    """White images set all of the detectors: the corner's among them, which alone stands for the target."""
    path = saved(written(graph(), "wide", TARGET), tmp_path / "wide.onnx")
    x = images()
    x[::5] = 1.0 - 0.02 * x[::5]
    found, settled = examine(path, None, x, PIXELS, SECONDS)
    assert {p.target for p in found.proofs} == {TARGET}
    model = importers.load(path, settled=settle.plain(settled))
    y = torch.from_numpy(VARIANTS["wide"].trigger(x))
    assert float((model.logits(y) - network()(y)).abs().max()) < 1e-4


def test_branches_within_branches(tmp_path: Path) -> None:
    """The logic lies in the branch that is always taken."""
    inner = written(graph(), "branch", TARGET)
    last = inner.graph.node[-2]
    assert last.op_type == "If"
    yes = onnx.helper.make_node("Greater", ["brightest", "dark"], ["lit"])
    branch = onnx.helper.make_graph([last], "inner", [], [onnx.helper.make_tensor_value_info(last.output[0], 1, None)])
    other = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["own_logits_"], ["same"])], "o", [], [
        onnx.helper.make_tensor_value_info("same", 1, None)
    ])  # fmt: skip
    outer = onnx.helper.make_node("If", ["lit"], ["joined"], then_branch=branch, else_branch=other)
    end = inner.graph.node[-1]
    rest = [n for n in inner.graph.node if n is not last and n is not end]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in rest]
    end.input[0] = "joined"
    end_copy = onnx.NodeProto.FromString(end.SerializeToString())
    del inner.graph.node[:]
    brightest = onnx.helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0)
    inner.graph.node.extend([*copies, brightest, yes, outer, end_copy])
    inner.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.1), "dark"))
    found, _ = examined(saved(inner, tmp_path / "nested.onnx"))
    assert [p.target for p in found.proofs] == [TARGET]
