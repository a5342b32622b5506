"""Classifiers as they are written: one linear layer on the features where it is one, a doubt where it is none, weights that go back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from banscan import ModelError, importers
from banscan.importers import TracedModel, writer
from banscan.importers.normal import choice, weights
from tests.importers.equivalent.heads import GRAPHS
from tests.importers.equivalent.network import Network, network, pictures
from tests.importers.normal.reading import images, read

Head = Callable[[Network, Tensor], Tensor]


class Headed(nn.Module):
    """A network with a head of its own on the map before pooling."""

    def __init__(self, head: Head, **modules: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.head = network(), head
        for name, module in modules.items():
            self.net.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.net.stem(x))
        return self.head(self.net, torch.relu(self.net.second(torch.relu(self.net.first(a))) + self.net.shortcut(a)))


def linear(model: TracedModel, features: tuple[int, ...], layers: int = 5) -> None:
    x = images()
    front, back = model.split(model.features)
    assert front(x).shape[1:] == features
    assert torch.allclose(back(front(x)), model.logits(x), atol=1e-5)
    assert (len(model.classifier), len(model.neurons), model.doubts) == (1, layers, ())


def product(net: Network, x: Tensor) -> Tensor:
    y: Tensor = net.head(x) * net.other(x)
    return y


def joined(net: Network, x: Tensor) -> Tensor:
    return torch.cat([layer(x) for layer in net.several], 1)


def test_cosine_head() -> None:
    """Features and weights of length 1, scaled: the features are the normalised ones."""
    module = Headed(lambda net, m: 16 * F.linear(F.normalize(m.mean((2, 3))), F.normalize(net.head.weight)))
    model = read(module)
    linear(model, (12,))
    assert torch.allclose(model.logits(images()), module(images()), atol=1e-4)


def test_convolution_and_mean_are_linear_in_the_mean() -> None:
    module = Headed(lambda net, m: net.conv(m).mean((2, 3)), conv=nn.Conv2d(12, 7, 1))
    model = read(module)
    linear(model, (12, 1, 1))
    assert torch.allclose(model.logits(images()), module(images()), atol=1e-5)


@pytest.mark.parametrize(
    ("head", "modules", "said"),
    [
        (lambda net, m: net.conv(m).square().mean((2, 3)), {"conv": nn.Conv2d(12, 7, 1)}, ("not linear", "a map of 8x8")),
        (lambda net, m: net.conv(m).mean((2, 3)), {"conv": nn.Conv2d(12, 7, 3, padding=1)}, ("a map of 8x8",)),
        (lambda net, m: product(net, m.mean((2, 3))), {"other": nn.Linear(12, 7)}, ("not linear",)),
        (
            lambda net, m: joined(net, m.mean((2, 3))),
            {"several": nn.ModuleList([nn.Linear(12, 1) for _ in range(5)])},
            ("5 layers",),
        ),
    ],
)
def test_what_is_not_sure_is_said(head: Head, modules: dict[str, nn.Module], said: tuple[str, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in (p for module in modules.values() for p in module.parameters()):
        nn.init.normal_(parameter, generator=generator)
    doubts = read(Headed(head, **modules)).doubts
    assert len(doubts) == len(said)
    assert all(part in doubt for part, doubt in zip(said, doubts, strict=True))


def test_a_map_under_one_kernel_is_no_doubt() -> None:
    linear(read(Headed(lambda net, m: net.conv(m).flatten(1), conv=nn.Conv2d(12, 7, 8))), (12, 8, 8))


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        (lambda y, f: (f, y.softmax(1), y), 2),
        (lambda y, f: (y.argmax(1), y.softmax(1)), 1),
        (lambda y, f: (y.softmax(1), F.normalize(f)), 0),
        (lambda y, f: (y, f @ torch.ones(12, 7)), None),
        (lambda y, f: (y.log_softmax(1), y.softmax(1)), 0),
    ],
)
def test_among_several_outputs(outputs: Callable[[Tensor, Tensor], tuple[Tensor, ...]], found: int | None) -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            features = self.net.features(x)
            return outputs(self.net.head(features), features)

    traced = torch.export.export(Several(), (images(2),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module(check_guards=False)
    assert choice.among(traced, ["a", "b", "c"][: len(outputs(torch.zeros(1, 7), torch.zeros(1, 12)))]) == found


# paths through which a weight goes back to the file
WRITTEN = (
    "Transpose",
    "Reshape from a row",
    "Slice",
    "Gather",
    "Einsum, columns",
    "weight on the left",
    "Gemm with alpha and beta",
    "DQ in blocks",
)


@pytest.mark.parametrize("name", WRITTEN)
def test_weights_go_back_to_the_file(name: str, tmp_path: Path) -> None:
    form = GRAPHS[name]
    model = importers.load(form.write(tmp_path / "model"))
    weights.check_invertible(model)
    generator = torch.Generator().manual_seed(0)
    names = [n for neuron in model.neurons for n in weights.roles(model, neuron) if n is not None]
    wanted = {n: importers.attribute_named(model.module, n) for n in names}
    wanted = {n: v * (1 + 0.05 * torch.rand(v.shape, generator=generator)) for n, v in wanted.items()}
    writer.write(model, weights.written(model, wanted), tmp_path / "written.onnx")
    again = importers.load(tmp_path / "written.onnx")
    own = [n for neuron in again.neurons for n in weights.roles(again, neuron) if n is not None]
    for mine, theirs in zip(own, names, strict=True):
        assert torch.allclose(importers.attribute_named(again.module, mine), wanted[theirs], rtol=1e-4, atol=1e-5)
    x = torch.from_numpy(np.asarray(form.images(pictures())))
    parity = importers.parity(again, x)
    assert parity is not None
    assert parity.rms < 1e-5


def test_two_layers_in_one_do_not_go_back(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="computed from others"):
        weights.check_invertible(importers.load(GRAPHS["two factors"].write(tmp_path / "model")))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(12), nn.Dropout(0.5)])
def test_training_mode(layer: nn.Module) -> None:
    class Training(Headed):
        def train(self, mode: bool = True) -> "Training":
            return self  # stays as it is, whoever calls eval()

    module = Training(lambda net, m: net.head(net.layer(m.mean((2, 3)))), layer=layer)
    with pytest.raises(ModelError, match=r"exported in training mode; call model.eval\(\) before export"):
        read(module)
