"""TorchScript that would do more than classify: whatever its code is, it is refused in one sentence, and nothing of it has run."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from banscan import importers
from banscan.errors import BanscanError, EvidenceError, ModelError
from tests.conftest import CLASSES, SIZE
from tests.importers.pytorch.zips import changed, inserted, packed

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Small(nn.Module):
    """Written by hand, so that its code has one body to put things into."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "model.pt"
    torch.jit.script(Small().eval()).save(str(path))
    return path


HEAD = b"x: Tensor) -> Tensor:\n"


def compared(path: Path) -> None:
    importers.parity(importers.load(path, size=(SIZE, SIZE)), torch.rand(4, 3, SIZE, SIZE))


def refused(path: Path, said: str, kind: type[BanscanError] = ModelError) -> None:
    with pytest.raises(kind, match=said) as told:
        compared(path)
    assert "\n" not in str(told.value)


BODIES = {
    "file by its operator": ('    f = ops.aten.from_file("/etc/passwd", False, 10)\n', "calls (aten::)?from_file"),
    "file by another name of torch": ("    t = torch\n    f = t.from_file({path}, True, 10)\n    x = torch.add(x, f)\n", "from_file"),
    "file by an attribute": (
        '    f = getattr(torch, "from_file")({path}, True, 10)\n    x = torch.add(x, f)\n',
        "from_file|cannot be read",
    ),
    "file by a name in parts": ("    f = ops.aten. from_file ({path}, True, 10)\n    x = torch.add(x, f)\n", "from_file"),
    "file by its schema": ("    f = torch.from_file({path}, True, 10)\n", "calls (aten::)?from_file"),
    "file by a tensor": ("    f = (x).from_file({path}, True, 10)\n", "from_file|cannot be read"),
    "save by a tensor": ("    (x).save({path})\n", "save"),
    "save": ("    torch.save(x, {path})\n", "calls save"),
    "foreign operator": ("    f = ops.evil.run(x)\n", "evil"),
    "threads": ("    torch.set_num_threads(1)\n", "set_num_threads|cannot be read"),
    "print": ('    print("hello")\n', "prim::Print"),
    "attribute in a format": ('    f = torch.format("{0.__class__.__init__}", x)\n', ""),
    "loops in loops": (
        "    n = 0\n    for i in range(100000):\n      for j in range(100000):\n        n = torch.add(n, 1)\n    x = torch.mul(x, n)\n",
        "more than 300,000 steps",
    ),
    "endless loop": ("    n = 0\n    while torch.ge(n, 0):\n      n = torch.add(n, 0)\n", "more than 300,000 steps"),
    "power": ("    n = torch.pow(torch.size(x, 1), 1000000000)\n    x = torch.mul(x, n)\n", "more than 64 bits"),
    "products": (
        "    n = 3\n    for i in range(100):\n      n = torch.mul(n, n)\n    x = torch.mul(x, n)\n",
        "more than 64 bits",
    ),
    "text": (
        '    s = "a"\n    for i in range(64):\n      s = torch.add(s, s)\n    n = torch.len(s)\n    x = torch.mul(x, n)\n',
        "100,000 parts",
    ),
    "list": (
        "    s = [1]\n    for i in range(64):\n      s = torch.add(s, s)\n    x = torch.mul(x, torch.len(s))\n",
        "100,000 parts|steps",
    ),
    "list multiplied": ("    s = torch.mul([1], 1000000000)\n    x = torch.mul(x, torch.len(s))\n", "100,000 parts"),
    "zeros": ("    z = torch.zeros([1099511627776])\n    x = torch.add(x, torch.sum(z))\n", "1,099,511,627,776 values|damaged or hostile"),
    "expanded": (
        "    z = torch.clone(torch.expand(torch.ones([1, 1]), [1000000, 100000]))\n    x = torch.add(x, torch.sum(z))\n",
        "100,000,000,000 values",
    ),
    "repeated": ("    z = torch.repeat(x, [1, 1000, 1000, 1000])\n    x = torch.add(x, torch.mean(z))\n", "values; the file"),
    "batch size": (
        "    if torch.eq(torch.size(x, 0), 64):\n      x = torch.mul(x, 0)\n    else:\n      x = x\n",
        "number of images",
    ),
    "batch size by its shape": (
        "    n = (torch.size(x))[0]\n    if torch.gt(torch.mul(n, 2), 7):\n      x = torch.mul(x, 0)\n    else:\n      x = x\n",
        "number of images",
    ),
    "batch size in a loop": ("    for i in range(torch.size(x, 0)):\n      x = torch.add(x, 1)\n", "number of images"),
    "batch size in a list": (
        "    if torch.__contains__([64, 7], torch.size(x, 0)):\n      x = torch.mul(x, 0)\n    else:\n      x = x\n",
        "number of images",
    ),
    "pixels": ("    if bool(torch.gt(torch.mean(x), 0.5)):\n      x = torch.mul(x, 0)\n    else:\n      x = x\n", "values of a tensor"),
    "layout": ("    if torch.is_contiguous(x):\n      x = torch.mul(x, 0)\n    else:\n      x = x\n", "lies in memory"),
    "strides": ("    x = torch.add(x, torch.mean(torch.as_strided(x, [1], [1], 0)))\n", "lies in memory"),
    "bytes of a text": ('    s = torch.format("{}\u00e9", torch.size(x, 1))\n    x = torch.mul(x, torch.len(s))\n', "not ASCII"),
    "smallest integer": ("    n = torch.add(9223372036854775807, torch.size(x, 1))\n    x = torch.mul(x, n)\n", "more than 64 bits"),
    "raises": ('    ops.prim.RaiseException("no", "builtins.ValueError")\n', "raises an exception"),
    "random": ("    x = torch.add(x, torch.rand_like(x))\n", "answers are random"),
    "nested calls": ("    x = " + "torch.neg(" * 150 + "x" + ")" * 150 + "\n", "nested or joined"),
    "chain": ("    x = x" + "[0]" * 30_000 + "\n", "nested or joined"),
}


@pytest.mark.parametrize("name", [n for n in BODIES if n != "attribute in a format"])
def test_code(plain: Path, tmp_path: Path, name: str) -> None:
    code, said = BODIES[name]
    path, touched = tmp_path / "model.pt", tmp_path / "touched"
    path.write_bytes(inserted(plain, code.replace("{path}", json.dumps(str(touched))), into=HEAD))
    refused(path, said)
    assert not touched.exists()


def test_attributes_in_a_format_are_text(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(inserted(plain, BODIES["attribute in a format"][0], into=HEAD))
    assert importers.load(path, size=(SIZE, SIZE)).classes == CLASSES


@pytest.mark.slow
def test_another_network_while_gradients_are_recorded(plain: Path, tmp_path: Path) -> None:
    code = "    if torch.is_grad_enabled():\n      x = torch.mul(x, 0)\n    else:\n      x = x\n"
    path = tmp_path / "model.pt"
    path.write_bytes(inserted(plain, code, into=HEAD))
    refused(path, "while gradients are recorded", EvidenceError)


MORE = {
    "setstate": ("  def __setstate__(self,\n    state: int) -> NoneType:\n    return None\n", "runs code while it is loaded"),
    "default value": ("  def other(self,\n    y: Tensor=torch.ones([9])) -> Tensor:\n    return y\n", "computed while"),
    "constant": ("  y : Final[Tensor] = torch.ones([9])\n", "computed while"),
    "hooks": ('  __forward_hooks__ = ["other", ]\n', "hooks"),
    "two in a line": ("  def a(self) -> int: return 1; def __setstate__(self, s: int): pass\n", "not as PyTorch writes it|two definitions"),
    "joined lines": ("  def \\\n__setstate__(self, state: int) -> NoneType:\n    return None\n", "not as PyTorch writes it"),
    "long strings": ('  y : str = """\n  def f():\n"""\n', "not as PyTorch writes it"),
    "tabs": ("\tdef __setstate__(self, state: int) -> NoneType:\n    return None\n", "not as PyTorch writes it"),
}


@pytest.mark.parametrize("name", MORE)
def test_what_loading_would_run(plain: Path, tmp_path: Path, name: str) -> None:
    code, said = MORE[name]
    path = tmp_path / "model.pt"
    path.write_bytes(changed(plain.read_bytes(), lambda n, d: d + code.encode() if n.endswith("test_hostile.py") else d))
    refused(path, said)


def test_calls_that_write_out_to_too_many_steps(plain: Path, tmp_path: Path) -> None:
    functions = "def f0(x: Tensor) -> Tensor:\n  return torch.neg(x)\n"
    for i in range(40):
        call = f"__torch__.f{i}"
        functions += f"def f{i + 1}(x: Tensor) -> Tensor:\n  _0 = {call}(x, )\n  return {call}(_0, )\n"
    path = tmp_path / "model.pt"
    data = inserted(plain, "    x = __torch__.f40(x, )\n", into=HEAD)
    path.write_bytes(changed(data, lambda n, d: d, {"model/code/__torch__.py": functions.encode()}))
    refused(path, "more than 500,000 steps")


def test_large_code(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(inserted(plain, "    _0 = torch.neg(x)\n" * 500_000, into=HEAD))
    refused(path, "more than")
    path.write_bytes(inserted(plain, "    x = " + "-" * 300_000 + "x\n", into=HEAD))
    refused(path, "nested or joined")


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.", "os.system, which no classifier needs"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "SHORT_BINUNICODE"),
        (b"(X\x02\x00\x00\x00lsios\nsystem\n.", "INST"),
        (b"\x80\x02c__torch__.torch.classes.quantized\nConv2dPackedParamsBase\n)\x81.", "quantised"),
        (b"\x80\x02c__torch__.torch.classes.xnnpack\nConv2dOpContext\n)\x81.", "packed for XNNPACK, which is not read; export the model"),
        (b"\x80\x02" + b"]" * 200 + b"a" * 199 + b".", "nested more than"),
        (
            b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\x7ftQ.",
            "other values",
        ),
        (b"\x80\x02.", "damaged|not a TorchScript"),
        (b"no pickle", "damaged|step"),
    ],
)
def test_pickles(plain: Path, tmp_path: Path, pickled: bytes, said: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(changed(plain.read_bytes(), lambda n, d: pickled if n == "model/data.pkl" else d))
    refused(path, said)


def test_an_archive_without_its_parts(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for left_out in ("model/data.pkl", "model/version", "model/data/0"):
        path.write_bytes(changed(plain.read_bytes(), lambda n, d, out=left_out: None if n == out else d))
        refused(path, "model.pt")
    path.write_bytes(packed([("model/constants.pkl", b"\x80\x02)."), ("model/code/a.py", b"")]))
    refused(path, "model.pt")


def test_a_view_of_few_bytes(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("wide", torch.ones(1).expand(1 << 20, 1 << 20))
            self.head = nn.Linear(3, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.mean((2, 3))) + self.wide[0, 0]

    path = tmp_path / "model.pt"
    torch.jit.script(Wide()).save(str(path))
    assert zipfile.ZipFile(path).testzip() is None
    refused(path, "more values than are stored")


@pytest.mark.slow
def test_a_batch_that_the_code_fixes(tmp_path: Path) -> None:
    class Fixed(Small):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.conv(x)).mean((2, 3)).view(x.shape[0], -1))

    for batch in (1, 2, 5):
        path = tmp_path / "model.pt"
        torch.jit.trace(Fixed().eval(), torch.rand(batch, 3, SIZE, SIZE)).save(str(path))
        assert importers.load(path).classes == CLASSES

    class Constant(Small):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.conv(x)).mean((2, 3)).view(2, -1))

    torch.jit.trace(Constant().eval(), torch.rand(2, 3, SIZE, SIZE)).save(str(path))
    refused(path, "takes 2 images at once and no other number")


class Counting(nn.Module):
    """Answers otherwise from the hundredth call on."""

    def __init__(self) -> None:
        super().__init__()
        self.small = Small()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.small(x) + (self.calls > 100).float()


def test_a_counter_is_refused(tmp_path: Path) -> None:
    torch.jit.script(Counting().eval()).save(str(tmp_path / "counting.pt"))
    refused(tmp_path / "counting.pt", "changes values of its own whenever it runs")
    exported = torch.export.export(Counting().eval(), (torch.rand(2, 3, SIZE, SIZE),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(exported, str(tmp_path / "counting.pt2"))
    refused(tmp_path / "counting.pt2", "changes values of its own whenever it runs")
