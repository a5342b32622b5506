"""Graphs cut where the noise begins: wherever the image is read, both halves compute what the model does, and a step of a search too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from banscan import importers
from banscan.importers import TracedModel, attribute_named
from banscan.scanner.search import neuron_noise
from banscan.scanner.search.noisy_model import NoisyModel, attach, layers, measure
from tests.importers.normal.reading import images

pytestmark = pytest.mark.filterwarnings("ignore")
aten = torch.ops.aten


class Padded(nn.Module):
    """Residual blocks whose shortcut is a pooled map with zeros for its further channels, as dlib has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, 1, 1)
        self.third, self.head = nn.Conv2d(12, 12, 3, 1, 1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.stem(x))
        h = torch.relu(self.first(h) + F.pad(F.avg_pool2d(h, 2), (0, 0, 0, 0, 0, 6)))
        h = torch.relu(self.second(h) + h)
        h = torch.relu(self.third(F.pad(h, (-1, 0, 0, 1), value=0.1)))
        return torch.as_tensor(self.head(h.mean((2, 3))))


class Thrice(nn.Module):
    """A map that a layer, a shortcut and the classifier read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 1, 1)
        self.third, self.head = nn.Conv2d(6, 6, 3, 1, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        k = torch.relu(self.third(torch.relu(self.second(h))) + h)
        return torch.as_tensor(self.head(h.mean((2, 3)) + k.mean((2, 3))))


class Beside(nn.Module):
    """The image itself is read again behind every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(9, 6, 3, 1, 1), nn.Conv2d(9, 6, 3, 1, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        h = torch.relu(self.second(torch.cat((h, x), 1)))
        return torch.as_tensor(self.head(torch.relu(self.third(torch.cat((h, x), 1))).mean((2, 3))))


class Few(nn.Module):
    """One layer, which reads the image, and the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(96, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(torch.relu(self.first(x)).flatten(1)))


class Rows(nn.Module):
    """No convolution: the pixels in one row."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(768, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(torch.tanh(self.first(x.flatten(1)))))


class Scaled(Few):
    """A batch norm is the first to read the image, and carries noise itself."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean, self.norm.running_var = torch.rand(3), torch.rand(3) + 0.5

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.relu(self.norm(x)))


def noisy(kind: type[nn.Module], path: Path, depth: float, form: str) -> tuple[TracedModel, NoisyModel]:
    """A model as a file has it, and the layers of it that carry noise."""
    torch.manual_seed(0)
    torch.jit.trace(kind().eval(), images(2)).save(str(path))
    model = importers.load(path)
    below = layers(model, depth)
    return model, attach(model, below, measure(model, below, images()) if form == "normalised" else None)


class Shaken(fx.Interpreter):
    """The model's own graph, in which the noise [1, D] is multiplied in as BAN has it (Eq. 3): w x (1 + delta) + b (1 + xi)."""

    def __init__(self, model: TracedModel, under: NoisyModel, noise: Tensor) -> None:
        super().__init__(model.module)
        sizes = [n.channels for n in under.neurons]
        delta, xi = (half.split(sizes) for half in noise[0].chunk(2))
        self.layers = {n.node: (n, d, x) for n, d, x in zip(under.neurons, delta, xi, strict=True)}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name not in self.layers:
            return value
        neuron, delta, xi = self.layers[n.name]
        if neuron.kind == "norm":
            weight, bias, mean, var = (attribute_named(self.module, str(a.target)) for a in n.args[1:5])  # type: ignore[union-attr]
            bias = bias - mean * weight / (var + float(str(n.args[7]))).sqrt()
        else:
            bias = attribute_named(self.module, str(n.args[2].target))  # type: ignore[union-attr]
        shape = [-1 if i == neuron.axis % value.dim() else 1 for i in range(value.dim())]
        return (value - bias.reshape(shape)) * (1 + delta).reshape(shape) + (bias * (1 + xi)).reshape(shape)


@pytest.mark.parametrize("form", ["normalised", "paper"])
@pytest.mark.parametrize("depth", [0, 0.5, 0.75])
@pytest.mark.parametrize("kind", [Padded, Thrice, Beside, Few, Rows, Scaled])
def test_halves(kind: type[nn.Module], depth: float, form: str, tmp_path: Path) -> None:
    model, under = noisy(kind, tmp_path / "model.pt", depth, form)
    x = images()
    prepared, clean = under.prepare(x, batch=4), model.logits(x)
    for own in neuron_noise.logits_under(under, prepared, torch.zeros(2, under.size))[0]:
        torch.testing.assert_close(own, clean, rtol=1e-3, atol=1e-3)
    labels = clean.argmax(1)
    start = torch.zeros(1, under.size)
    found = neuron_noise.search(under, prepared, labels, start, eps=0.2, steps=1, batch=len(x), seed=0, ball="l2")
    shaken, _ = neuron_noise.logits_under(under, prepared, found)
    assert float(F.cross_entropy(shaken[0], labels)) > float(F.cross_entropy(clean, labels))
    if form == "paper":
        torch.testing.assert_close(shaken[0], Shaken(model, under, found).run(x), rtol=1e-4, atol=1e-4)


class Adding(TorchDispatchMode):
    """How often maps are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (aten.add.Tensor, aten.add_.Tensor) and args[0].dim() == 4
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("form", ["normalised", "paper"])
@pytest.mark.parametrize(("kind", "several"), [(Padded, (2, 1)), (Thrice, (2, 1))])
def test_two_readers(kind: type[nn.Module], several: tuple[int, int], form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two gradients of a layer are added where it reads them; those of a third reader, and of a sum that stands alone, by autograd."""
    pytest.importorskip("triton")
    _, under = noisy(kind, tmp_path / "model.pt", 0, form)
    prepared = under.prepare(images())
    gradients, added = [], []
    for name in ("reference", "triton"):
        monkeypatch.setenv("BANSCAN_KERNELS", name)
        noise = neuron_noise.start(under, 2, 0.2, 0, "linf").requires_grad_()
        logits, _ = under.run(prepared, noise)
        with Adding() as adding:
            gradients += torch.autograd.grad(logits.square().sum(), noise)
        added.append(adding.count)
    assert tuple(added) == several
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-4
