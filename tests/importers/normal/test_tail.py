"""What is taken off behind the logits, and what is not: only where the order of the classes provably stays."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from banscan import ModelError
from tests.importers.equivalent.network import Network, network
from tests.importers.normal.reading import Behind, behind, images, read

Function = Callable[[Tensor], Tensor]
ONE = "one logit for two classes"
KEPT: dict[str, Function] = {
    "swish": lambda y: y * torch.sigmoid(y),
    "a weight for each class": lambda y: torch.sigmoid(y) * torch.linspace(0.5, 1, 7),
    "a bias for each class": lambda y: y.exp() + torch.linspace(0, 3, 7),
    "a fall among large ones": lambda y: torch.sigmoid(y) - 4 * torch.clamp(torch.sigmoid(y) - 0.9, min=0),
    "a square": lambda y: y.exp().log() ** 2,
    "a sum with the reversed": lambda y: torch.sigmoid(y) + torch.sigmoid(y).flip(1),
    "a cast that wraps": lambda y: (torch.sigmoid(y) * 600).to(torch.uint8).float(),
    "a product of both signs": lambda y: torch.tanh(y) * y,
    "an exponent without a sign": lambda y: torch.exp(y) ** -1 * y,
}


@pytest.mark.parametrize("name", KEPT)
def test_what_may_change_the_order_stays(name: str) -> None:
    model, x = behind(KEPT[name]), images()
    assert model.stripped == ()
    assert torch.allclose(model.logits(x), KEPT[name](network()(x)), atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.softmax(0),  # over the images
        lambda y: (y.softmax(1) + y.flip(1).softmax(1)) / 2,
        lambda y: 100 * (y.softmax(1) * torch.linspace(1, 2, 7)) / (y.softmax(1) * torch.linspace(1, 2, 7)).sum(1, keepdim=True),
    ],
)
def test_probabilities_of_which_the_logits_are_not_found(function: Function) -> None:
    """Their logarithms are logits up to a constant for each image."""
    x = images()
    try:
        model = behind(function)
    except ModelError:
        return
    plain = function(network()(x))
    if "log of probabilities" in model.stripped:
        assert torch.allclose(model.logits(x), plain.log(), atol=1e-4)
        assert torch.allclose(model.outputs(model.logits(x)), plain, atol=1e-4)
    else:
        assert not torch.allclose(plain.sum(1), plain.sum(1)[:1].expand(len(x)), rtol=1e-2)


def test_the_logarithm_of_probabilities() -> None:
    mixed = behind(lambda y: (y.softmax(1) + y.flip(1).softmax(1)) / 2)
    assert mixed.stripped == ("log of probabilities",)


def one(function: Function) -> nn.Module:
    torch.manual_seed(0)
    net = Network()
    net.head = nn.Linear(12, 1)
    return Behind(net, function)


def pair(p: Tensor) -> Tensor:
    return torch.cat((1 - p, p), 1)


def stacked(p: Tensor) -> Tensor:
    return torch.stack((1 - p, p), 1)


BINARY: dict[str, tuple[Function, tuple[str, ...], int]] = {
    "logit": (lambda z: z, (ONE,), 1),
    "logit without an axis": (lambda z: z.squeeze(1), (ONE,), 1),
    "sigmoid": (torch.sigmoid, ("Sigmoid", ONE), 1),
    "sigmoid without an axis": (lambda z: torch.sigmoid(z)[:, 0], ("Sigmoid", ONE), 1),
    "flattened": (lambda z: torch.sigmoid(z).reshape(-1), ("Sigmoid", ONE), 1),
    "written out": (lambda z: 1 / (1 + torch.exp(-z)), ("Sigmoid", ONE), 1),
    "clipped, in double": (lambda z: torch.sigmoid(z.double()).clamp(1e-7, 1 - 1e-7), ("Clip", "Sigmoid", ONE), 1),
    "pair": (lambda z: pair(torch.sigmoid(z)), ("Concat", "Sigmoid", ONE), 1),
    "stack": (lambda z: stacked(torch.sigmoid(z.squeeze(1))), ("Concat", "Sigmoid", ONE), 1),
    "stack, the first sure": (lambda z: stacked(1 - torch.sigmoid(z.squeeze(1))), ("Concat", "Sigmoid", ONE), -1),
    "the other class": (lambda z: torch.sigmoid(-z), ("Sigmoid", ONE), 1),
    "label": (lambda z: (torch.sigmoid(z) > 0.5).long(), ("Sigmoid", ONE), 1),
    "rounded": (lambda z: torch.sigmoid(z).round(), ("Round", "Sigmoid", ONE), 1),
}


@pytest.mark.parametrize("name", BINARY)
@torch.no_grad()
def test_one_logit(name: str) -> None:
    function, stripped, sign = BINARY[name]
    module, x = one(function), images()
    model = read(module)
    assert (model.stripped, model.classes) == (stripped, 2)
    z = module.net(x)
    expected = torch.sigmoid(z if name != "the other class" else -z)
    assert torch.allclose(model.logits(x).softmax(1)[:, 1 if sign > 0 else 0], expected[:, 0], atol=1e-6)
    assert torch.allclose(model.outputs(model.logits(x)).float(), module(x).float(), atol=1e-6)


def test_softmax_of_nothing_and_a_logit() -> None:
    """The two logits are there already."""
    model = read(one(lambda z: torch.cat((torch.zeros_like(z), z), 1).softmax(1)))
    assert (model.stripped, model.classes) == (("Softmax",), 2)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda y: y.softmax(1).amax(1), "one number for all classes"),
        (lambda y: y.softmax(1).max(1, keepdim=True).values, "one number for all classes"),
        (lambda y: (y, y.softmax(1)), "one tensor"),
        (lambda y: y[:, :, None, None].expand(-1, -1, 2, 2), r"shape \[batch, 7, 2, 2\]"),
        (lambda y: (y > 0).long().sum(1), "one number for all classes"),
        (lambda y: (y == y.amax(1, keepdim=True)).float(), "a label for each image"),
    ],
)
def test_what_tells_nothing_of_the_classes(function: Function, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        behind(function)


def test_the_smallest_wins() -> None:
    """Distances: the logits are negated."""
    model, x = behind(lambda y: y.argmin(1)), images()
    assert torch.equal(model.logits(x), -network()(x))
    assert torch.equal(model.outputs(model.logits(x)), network()(x).argmin(1))
