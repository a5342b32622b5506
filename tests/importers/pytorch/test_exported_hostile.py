"""torch.export archives that claim more than they hold, or that are no program of a classifier: one sentence each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from banscan import importers
from banscan.errors import ModelError
from banscan.importers.pytorch import exported
from tests.conftest import CLASSES, SIZE, Net, random_norms
from tests.importers.pytorch.test_container import sentence
from tests.importers.pytorch.zips import changed, packed

Edit = Callable[[Any], Any]


def save(module: nn.Module, path: Path, example: Tensor | None = None) -> Path:
    given = torch.rand(2, 3, SIZE, SIZE) if example is None else example
    program = torch.export.export(module.eval(), (given,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    return save(random_norms(Net()), tmp_path_factory.mktemp("plain") / "model.pt2").read_bytes()


def edited(data: bytes, part: str, edit: Edit) -> bytes:
    """With the JSON files whose name has `part` in it changed, in place or to what is returned."""

    def change(name: str, old: bytes) -> bytes:
        if part not in name or not name.endswith(".json"):
            return old
        document = json.loads(old)
        new = edit(document)
        return new if isinstance(new, bytes) else json.dumps(document if new is None else new).encode()

    return changed(data, change)


def nodes(document: Any) -> list[Any]:
    return document["graph_module"]["graph"]["nodes"]  # type: ignore[no-any-return]


def first(document: Any) -> Any:
    return next(iter(document["config"].values()))


def refused(path: Path, data: bytes, said: str) -> None:
    path.write_bytes(data)
    with pytest.raises(ModelError, match=said) as told:
        importers.load(path)
    assert "\n" not in str(told.value)


def put(*keys: Any, value: Any) -> Edit:
    def edit(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return edit


def wide(document: Any) -> None:
    """A view that repeats a few bytes."""
    meta = first(document)["tensor_meta"]
    meta["sizes"], meta["strides"] = [{"as_int": 1 << 20}] * 2, [{"as_int": 0}] * 2


def many(document: Any) -> None:
    """One file under very many names."""
    entry = first(document)
    document["config"] = {f"w{i}": entry for i in range(20_000)} | document["config"]
    entry["tensor_meta"]["sizes"], entry["tensor_meta"]["strides"] = [{"as_int": 1000}], [{"as_int": 0}]


def argument(position: int, value: Any) -> Edit:
    return lambda d: nodes(d)[0]["inputs"].__setitem__(position, value)


GRAPH = ("graph_module", "graph")
CASES: dict[str, tuple[str, Edit, str]] = {
    "wide": ("weights_config", wide, "more values than are stored"),
    "many": ("weights_config", many, "more values than are stored|more than"),
    "negative stride": ("weights_config", lambda d: first(d)["tensor_meta"].__setitem__("strides", [{"as_int": -1}] * 4), "fewer values"),
    "no sizes": ("weights_config", lambda d: first(d)["tensor_meta"].__setitem__("sizes", None), "damaged"),
    "no weights": ("weights_config", lambda d: d["config"].clear(), "is not in the archive"),
    "deep": ("/models/", lambda d: b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
    "deep in strings": ("/models/", lambda d: b'{"a": "' + b"[" * 1000 + b'"}', "damaged"),
    "no JSON": ("/models/", lambda d: b"{", "damaged"),
    "no text": ("/models/", lambda d: b"\xff\xfe{}", "damaged"),
    "a list": ("/models/", lambda d: [1, 2], "damaged"),
    "no graph": ("/models/", put("graph_module", value=None), "damaged"),
    "no nodes": ("/models/", put(*GRAPH, "nodes", value=[]), "damaged|cannot be computed"),
    "nodes that are text": ("/models/", put(*GRAPH, "nodes", value="nodes"), "damaged"),
    "no signature": ("/models/", lambda d: d["graph_module"].pop("signature"), "damaged"),
    "no inputs": ("/models/", put("graph_module", "signature", "input_specs", value=[]), "0 inputs"),
    "no outputs": ("/models/", put("graph_module", "signature", "output_specs", value=[]), "no tensor|cannot be|damaged"),
    "two keys": ("/models/", argument(0, {"name": "input", "arg": {"as_int": 1, "as_bool": True}}), "damaged"),
    "unknown argument": ("/models/", argument(0, {"name": "input", "arg": {"as_graph": 1}}), "not supported"),
    "unknown name": ("/models/", argument(0, {"name": "input", "arg": {"as_tensor": {"name": "nobody"}}}), "cannot be computed"),
    "save": ("/models/", lambda d: nodes(d)[0].__setitem__("target", "torch.ops.aten.save.default"), "not supported"),
    "random": ("/models/", lambda d: nodes(d)[0].__setitem__("target", "torch.ops.aten.rand_like.default"), "random|cannot be"),
    "higher order": ("/models/", lambda d: nodes(d)[0].__setitem__("target", "torch.ops.higher_order.scan"), "not supported"),
    "getattr": ("/models/", lambda d: nodes(d)[0].__setitem__("target", "builtins.getattr"), "not supported"),
    "quantised": ("/models/", lambda d: nodes(d)[0].__setitem__("target", "torch.ops.quantized_decomposed.x.default"), "quantised"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(plain: bytes, tmp_path: Path, name: str) -> None:
    part, edit, said = CASES[name]
    refused(tmp_path / "model.pt2", edited(plain, part, edit), said)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["m/models/a.json", "m/models/b.json"], r"2 programs \('a', 'b'\)"),
        (["m/models/a.json", "m/data/aotinductor/a/x.so"], "compiled code"),
        (["m/serialized_exported_program.json", "m/serialized_state_dict.pt"], "older PyTorch"),
    ],
)
def test_other_packages(tmp_path: Path, names: list[str], said: str) -> None:
    refused(tmp_path / "model.pt2", packed([(name, b"{}") for name in names]), said)


def test_a_tensor_that_cannot_be(tmp_path: Path) -> None:
    class Zeros(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.mean((2, 3))) + torch.zeros(7, 1).sum()

    data = save(Zeros(), tmp_path / "model.pt2").read_bytes()

    def edit(document: Any) -> None:
        (zeros,) = (n for n in nodes(document) if ".zeros." in n["target"])
        zeros["inputs"][0]["arg"] = {"as_ints": [1 << 20, 1 << 20]}

    refused(tmp_path / "model.pt2", edited(data, "/models/", edit), "makes a tensor of 1,099,511,627,776 values")


def test_a_batch_that_the_code_fixes(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.mean((2, 3)).view(2, -1))

    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Fixed(), (torch.rand(2, 3, SIZE, SIZE),)), path)
    refused(path, path.read_bytes(), "takes 2 images at once and no other number")


@pytest.mark.slow
def test_every_field_may_be_missing_or_of_another_type(tmp_path: Path) -> None:
    """The first fields of every kind in the program and in the table of weights."""
    path = tmp_path / "model.pt2"
    plain = save(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES)), path).read_bytes()
    seen: set[tuple[Any, ...]] = set()

    def places(value: Any, keys: tuple[Any, ...]) -> None:
        kind = tuple("#" if isinstance(k, int) else k for k in keys)
        if kind in seen or len(keys) > 7 or "metadata" in keys:
            return
        if keys:
            seen.add(kind)
            found.append(keys)
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])[:8]:
            places(inner, (*keys, key))

    for part in ("/models/", "weights_config"):
        found: list[tuple[Any, ...]] = []
        edited(plain, part, lambda d: places(d, ()))
        for number, keys in enumerate(found):
            path.write_bytes(edited(plain, part, put(*keys, value=(None, "x", -1, [])[number % 4])))
            assert "\n" not in sentence(lambda p: exported.opened(p, None, None), path)
