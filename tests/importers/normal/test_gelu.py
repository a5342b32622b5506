"""A GELU that a file writes out is one operator in the graph, and computes the same."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from banscan import importers
from tests.conftest import slow_except

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ROOT = math.sqrt(2)
# the orders in which the product may stand
WRITTEN: dict[str, Callable[[Tensor], Tensor]] = {
    "pytorch": lambda x: x * (torch.erf(x / ROOT) + 1) * 0.5,
    "half first": lambda x: (x * 0.5) * (1 + torch.erf(x * (1 / ROOT))),
    "half of the sum": lambda x: x * (0.5 * (1 + torch.erf(x / ROOT))),
    "divided": lambda x: x * (torch.erf(x / ROOT) + 1) / 2,
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "another scale": lambda x: x * (torch.erf(x / 1.5) + 1) * 0.5,
    "another sum": lambda x: x * (torch.erf(x / ROOT) + 2) * 0.5,
    "never halved": lambda x: x * (torch.erf(x / ROOT) + 1),
    "another product": lambda x: x.relu() * (torch.erf(x / ROOT) + 1) * 0.5,
    "divided by x": lambda x: (torch.erf(x / ROOT) + 1) / x.abs().clamp(min=1) * 0.5,
}


class Network(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.head, self.act = nn.Conv2d(3, 6, 3), nn.Linear(6, 5), act

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.act(self.conv(x)).mean((2, 3)))
        return y


def imported(act: Callable[[Tensor], Tensor], path: Path) -> tuple[list[str], float]:
    """The operators of the graph and its largest difference from the network."""
    torch.manual_seed(0)
    network = Network(act).eval()
    images = torch.rand(3, 3, 8, 8) * 4 - 2
    if path.suffix == ".pt":
        torch.jit.save(torch.jit.trace(network, images), str(path))
    else:
        torch.onnx.export(network, (images,), str(path), dynamo=False, opset_version=17, input_names=["x"], dynamic_axes={"x": {0: "n"}})
    model = importers.load(path)
    with torch.no_grad():
        difference = float((model.logits(images) - network(images)).abs().max())
    return [str(n.target) for n in model.module.graph.nodes if n.op == "call_function"], difference


@pytest.mark.parametrize("suffix", slow_except([".onnx", ".pt"], ".onnx"))
@pytest.mark.parametrize("how", WRITTEN)
def test_written_out(how: str, suffix: str, tmp_path: Path) -> None:
    operators, difference = imported(WRITTEN[how], tmp_path / f"model{suffix}")
    assert [o for o in operators if "gelu" in o] == ["aten.gelu.default"]
    assert not any("erf" in o for o in operators)
    assert difference < 1e-6


@pytest.mark.parametrize("how", OTHERS)
def test_what_is_no_gelu_stays(how: str, tmp_path: Path) -> None:
    operators, difference = imported(OTHERS[how], tmp_path / "model.onnx")
    assert "aten.erf.default" in operators
    assert not any("gelu" in o for o in operators)
    assert difference < 1e-6


def test_constant_that_adds_an_axis(tmp_path: Path) -> None:
    operators, difference = imported(
        lambda x: (x * (torch.erf(x / ROOT) + 1) * torch.full((1, 1, 1, 1, 1), 0.5))[0], tmp_path / "model.onnx"
    )
    assert "aten.erf.default" in operators
    assert difference < 1e-6


def test_intermediate_that_others_read(tmp_path: Path) -> None:
    def act(x: Tensor) -> Tensor:
        grown = torch.erf(x / ROOT) + 1
        return x * grown * 0.5 + grown

    operators, difference = imported(act, tmp_path / "model.onnx")
    assert "aten.erf.default" in operators
    assert difference < 1e-6
