"""What a sloppy reading of TorchScript would lose, and what could hide behind it: it is computed as the runtime does, or refused."""

import importlib.util
from pathlib import Path

import pytest
import torch

from banscan import importers
from banscan.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
# "body" adds what only images with a white corner show
CODE = """
import torch
from torch import nn
from torch.nn import functional as F
from typing import List

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)
        self.one: float = 1.0
        self.three: int = 3
        self.large: int = 9007199254740993
        self.list: List[int] = [1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corner = F.relu(x[:, 0, :4, :4].mean([1, 2]) - 0.95)
        extra = corner * 0.0
{body}
        return self.head(F.relu(self.conv(x)).mean([2, 3]) + extra.unsqueeze(1))
"""


def when(condition: str) -> str:
    return f"if {condition}:\n    extra = corner * 20.0"


# what it is → the code, and what its refusal says; None where it is computed
BODIES = {
    "double": ("extra = ((corner.double() + 1e10) - 1e10).float() * 20.0", None),
    "half": ("extra = ((corner * 1e-8).half().float() - corner * 1e-8).abs() * 2e9", None),
    "overflow of half": ("extra = torch.clamp(F.relu((corner * 3e6).half().float() - 3e6), 0, 20)", None),
    "a number in half": (when("int(torch.tensor(2.7).half().item() * 1000) != 2700"), None),
    "a number in float32": ("y = (torch.ones(1).double() * 0.1).float().double() - 0.1\nextra = corner * 20.0 * (y != 0).float()", None),
    "type double": (when("x.double().dtype == torch.float64"), None),
    "type half": (when("x.half().dtype != x.dtype"), "types of its numbers"),
    "half of a half": (when("x.half().float().dtype == x.half().dtype"), "types of its numbers"),
    "a copy in double": ("y = torch.ones(4)\nz = y.double()\nz.zero_()\nextra = corner * 20.0 * y[0]", None),
    "a copy of a half": (
        "y = torch.ones(4).half()\nz = y.float()\nz.zero_()\nextra = corner * 20.0 * y[0].float()",
        "writes into a tensor",
    ),
    "a copy that is asked for": ("y = torch.ones(4)\nz = y.to(torch.float32, copy=True)\nz.zero_()\nextra = corner * 20.0 * y[0]", None),
    "a dropout's result": (
        "y = torch.ones(4)\nz = F.dropout(y, 0.5, False)\nz.zero_()\nextra = corner * 20.0 * y[0]",
        "writes into a tensor",
    ),
    "empty": ("y = torch.empty(1)\nextra = corner * 20.0 * (y[0] != 7).float()", "without setting"),
    "indices": ("v, i = F.max_pool2d_with_indices(x, [2, 2])\nextra = corner * i.float().mean()", "where in a window"),
    "how many indices": (f"v, i = F.max_pool2d_with_indices(x, [2, 2])\n{when('i.numel() > 0')}", "where in a window"),
    "statistics": (f"v, i, j = torch.native_layer_norm(x, [16], None, None, 1e-5)\n{when('j.numel() > 0')}", "statistics"),
    "text of a number": (when('str(self.one) == "1."'), "text of numbers"),
    "text of a list": (when('"{}".format(self.list) == "[1]"'), "text of numbers"),
    "text of an integer": (when('"{}".format(self.three) == "3"'), None),
    "a list that grows": (f"a = [1]\nb = a\nb += [2]\n{when('len(a) == 2')}", None),
    "a list of its own": (f"self.list.append(2)\n{when('len(self.list) == 2')}\nself.list.pop()", "list or dictionary of its own"),
    "a tensor in a list": ("y = corner * 0.0\nl = [y]\ny.add_(corner)\nextra = l[0] * 20.0", "list or dictionary holds"),
    "a part in a list": ("y = corner * 0.0\nl = [y]\nfor t in l:\n    t.add_(corner)\nextra = l[0] * 20.0", "list or dictionary holds"),
    "a reshape that copies": (
        "w = corner.reshape(-1, 1, 1) * torch.ones(1, 4, 4)\nv = w.transpose(1, 2)\ny = v.reshape(-1, 16)\ny.mul_(0.0)\n"
        "extra = v.sum([1, 2])",
        "writes into a tensor",
    ),
    "a contiguous copy": (
        "w = corner.reshape(-1, 1, 1) * torch.ones(1, 4, 4)\nv = w.transpose(1, 2)\ny = v.contiguous()\ny.mul_(0.0)\nextra = v.sum([1, 2])",
        "writes into a tensor",
    ),
    "another layout": ("y = x.to(torch.float32, memory_format=torch.channels_last)\ny.mul_(0.0)\nextra = corner * x.sum()", "writes into"),
    "a turned part": ("w = corner.reshape(-1, 1, 1) * torch.ones(1, 4, 4)\nv = w.mT\nv.mul_(0.0)\nextra = w.sum([1, 2])", "writes into"),
    "a reshape that is read no more": ("y = (corner * 1.0).reshape(-1, 1)\ny.mul_(20.0)\nextra = y.reshape(-1)", None),
    "sorted backwards": (f"a = [1, 3, 2]\na.sort(reverse=True)\n{when('a[0] == 3')}", None),
    "an integer beside a real number": (when("self.large * self.one == self.large"), None),
    "a shift of too many bits": (when("(self.three >> 65) == 1"), "shifts an integer"),
    "division toward zero": (when("int(-self.three / 2) == -1"), None),
}


def saved(folder: Path, body: str) -> Path:
    source = folder / "net.py"
    source.write_text(CODE.format(body="\n".join(f"        {line}" for line in body.splitlines())))
    spec = importlib.util.spec_from_file_location("net", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.jit.script(module.Net().eval()).save(str(folder / "net.pt"))
    return folder / "net.pt"


@pytest.mark.parametrize("name", BODIES)
def test_hidden(tmp_path: Path, name: str) -> None:
    body, said = BODIES[name]
    path = saved(tmp_path, body)
    if said is not None:
        with pytest.raises(ModelError, match=said):
            importers.load(path, (16, 16))
        return
    model = importers.load(path, (16, 16))
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    x[:, :, :4, :4] = 1
    answer = torch.jit.load(str(path))(x).detach()
    assert float((model.logits(x) - answer).abs().max()) < 1e-3 * float(answer.abs().max())
