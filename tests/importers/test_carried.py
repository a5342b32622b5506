"""A model that was made plain and restored computes the same; plain values that are no model are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from banscan.errors import ModelError
from banscan.importers import carried, reading
from banscan.importers.model import attribute_named
from tests.importers.equivalent.tails import FORMS

# for two images and no other number
FIXED = ("call_function", "fixed", "aten.view.default", ("tuple", [("node", "image"), ("list", [2, -1])]), ("dict", {}))


@pytest.fixture
def values(model_file: Path, tmp_path: Path) -> dict[str, Any]:
    """A model's plain values, after the way that they take."""
    torch.save(carried.plain(reading.read(model_file, None, None)), tmp_path / "values")
    loaded: dict[str, Any] = torch.load(tmp_path / "values", weights_only=True)
    return loaded


def test_everything_comes_back(model_file: Path, values: dict[str, Any]) -> None:
    before, after = reading.read(model_file, None, None), carried.restored(values, model_file)
    x = torch.rand(3, *before.input.example().shape[1:])
    assert torch.equal(before.logits(x), after.logits(x))
    for name in ("input", "classes", "neurons", "features", "spatial", "classifier", "stripped", "source", "statistics"):
        assert getattr(before, name) == getattr(after, name), name
    assert [n.name for n in before.module.graph.nodes] == [n.name for n in after.module.graph.nodes]
    for old, new in zip(before.module.graph.nodes, after.module.graph.nodes, strict=True):
        shapes = [[s if isinstance(s, int) else "free" for s in getattr(n.meta.get("val"), "shape", ())] for n in (old, new)]
        assert shapes[0] == shapes[1], old
    changed = {name: attribute_named(before.module, name) + 1 for name in before.source.weights}
    mine, theirs = before.constants(changed), after.constants(changed)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["module"].pop("nodes"),
        lambda v: v["module"]["nodes"].append(("call_function", "evil", "os.system", ("tuple", ["true"]), ("dict", {}))),
        lambda v: v["module"]["nodes"].insert(-1, ("call_function", "evil", "aten.from_file.default", ("tuple", ["x"]), ("dict", {}))),
        lambda v: v["module"]["nodes"].insert(-1, ("call_method", "evil", "numpy", ("tuple", []), ("dict", {}))),
        lambda v: v["module"]["nodes"].insert(-1, ("get_attr", "evil", "__class__", ("tuple", []), ("dict", {}))),
        lambda v: v["module"]["nodes"].insert(-1, v["module"]["nodes"][-2]),
        lambda v: v["module"]["nodes"].pop(0),
        lambda v: v["module"]["nodes"].insert(-1, FIXED),
        lambda v: v["rest"].update(surprise=1),
        lambda v: v["neurons"].append({}),
        lambda v: v["module"].update(tensors=[]),
        lambda v: v.update(tail={}),
        lambda v: v.update(tail=v["module"] | {"nodes": [("call_function", "evil", "os.system", ("tuple", []), ("dict", {}))]}),
    ],
)
def test_what_is_no_model_is_refused(values: dict[str, Any], change: Any) -> None:
    change(values)
    with pytest.raises(ModelError, match=r"model: its reader answered something that is no model"):
        carried.restored(values, Path("model"))


def test_what_was_taken_off_comes_back(tmp_path: Path) -> None:
    path = FORMS["softmax clipped"].write(tmp_path / "model")
    before = reading.read(path, None, None)
    after = carried.restored(carried.plain(before), path)
    logits = before.logits(torch.rand(3, 3, 16, 16))
    assert torch.equal(before.outputs(logits), after.outputs(logits))
    assert (after.stripped, after.doubts, after.output_axis) == (("Clip", "Softmax"), (), 0)
