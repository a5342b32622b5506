"""Images that are not, or not alone, on the first axis: every image keeps its own rows, and every restart its own noise."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sympy
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.sym_node import SymNode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from banscan import importers
from banscan.errors import EvidenceError
from banscan.importers import TracedModel
from banscan.scanner.inputs.checks import check_copy
from banscan.scanner.search.noisy_model import attach, disagreement, layers, measure
from banscan.scanner.search.rows import Rows, rows
from tests.importers.equivalent.network import network
from tests.importers.normal.reading import images, read

pytestmark = pytest.mark.filterwarnings("ignore")
IMAGES, RESTARTS = 7, 3


class Tokens(nn.Module):
    """A network whose map becomes tokens [N, 64, 12] for two more layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.first, self.second = network(), nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        n = self.net
        h = torch.relu(n.stem(x))
        h = torch.relu(n.second(torch.relu(n.first(h))) + n.shortcut(h))
        return torch.as_tensor(n.head(self.mixed(h.flatten(2).transpose(1, 2)).mean(1)))

    def mixed(self, t: Tensor) -> Tensor:
        return t + torch.relu(self.second(torch.relu(self.first(t))))


class Windows(Tokens):
    def mixed(self, t: Tensor) -> Tensor:
        w = t.reshape(-1, t.shape[1] // 4, t.shape[2])
        return super().mixed(w).reshape(t.shape)


class InFront(Tokens):
    """[tokens, N, values], as PyTorch's attention has them."""

    def mixed(self, t: Tensor) -> Tensor:
        return super().mixed(t.transpose(0, 1)).transpose(0, 1)


class Attention(Tokens):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3)

    def mixed(self, t: Tensor) -> Tensor:
        t = t.transpose(0, 1)
        return super().mixed(t + self.attention(t, t, t, need_weights=False)[0]).transpose(0, 1)


def traced(module: nn.Module, path: Path) -> TracedModel:
    """Read from a file, which has reshapes where a module has views."""
    torch.jit.trace(module.eval(), images(2)).save(str(path))
    return importers.load(path)


@pytest.mark.parametrize("depth", [0, 0.5, 0.75])
@pytest.mark.parametrize("kind", [Tokens, Windows, InFront, Attention])
def test_rows(tmp_path: Path, kind: type[Tokens], depth: float) -> None:
    model = traced(kind(), tmp_path / "model.pt") if kind is Attention else read(kind())
    x = images(IMAGES)
    below = layers(model, depth)
    noisy = attach(model, below, measure(model, below, x))
    prepared = noisy.prepare(x, batch=3)
    order = torch.arange(IMAGES - 1, -1, -1)
    turned = tuple(part[order] for part in prepared)
    still = noisy.run(turned, torch.zeros(1, noisy.size))[0]
    torch.testing.assert_close(still, model.logits(x)[order], rtol=1e-4, atol=1e-4)
    noise = 0.5 * torch.randn(RESTARTS, noisy.size, generator=torch.Generator().manual_seed(0))
    together = noisy.run(prepared, noise)[0].reshape(RESTARTS, IMAGES, -1)
    alone = torch.stack([noisy.run(prepared, noise[i : i + 1])[0] for i in range(RESTARTS)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert float((together - still[order]).abs().max()) > 0.1
    logits = model.logits(x)
    assert disagreement(noisy, prepared, logits) < 1e-3
    check_copy(disagreement(noisy, prepared, logits))
    few = disagreement(noisy, tuple(part[:4] for part in prepared), logits[:4])
    check_copy(few)


class Sized(Tensor):
    """A tensor with sizes as a trace has them: the first is written in symbols and comes to 3 whatever the batch is."""

    @property
    def shape(self) -> Any:  # type: ignore[override]
        environment = ShapeEnv()
        fixed = torch.SymInt(SymNode(sympy.Integer(3), environment, int, 3))
        batch = torch.SymInt(SymNode(sympy.Symbol("s0", integer=True, positive=True), environment, int, 5))
        return fixed, batch, 4


def test_a_size_that_comes_to_a_number_is_not_the_batch() -> None:
    node = fx.Graph().placeholder("x")
    node.meta["val"] = torch.empty(0).as_subclass(Sized)
    assert rows(node) == Rows(axis=1, each=1)


def test_noise_that_goes_to_other_rows() -> None:
    """As where the images are on another axis than the noise takes them to be."""
    model = read(Tokens())
    x = images(IMAGES)
    below = layers(model, 0.5)
    noisy = attach(model, below, measure(model, below, x))

    def shuffled(*arguments: Any) -> tuple[Tensor, Tensor]:
        logits, features = noisy.behind(*arguments)
        return logits.roll(1, 0), features

    wrong = replace(noisy, behind=cast(fx.GraphModule, shuffled))
    with pytest.raises(EvidenceError, match="depends on the images"):
        check_copy(disagreement(wrong, noisy.prepare(x), model.logits(x)))
