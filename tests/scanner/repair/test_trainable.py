"""The form that is trained is the model, comes back into its weights, and carries noise as Eq. 3 has it."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from banscan import ModelError, importers
from banscan.importers import TracedModel, attribute_named
from banscan.importers.normal import weights
from banscan.scanner.repair import answers, trainable
from tests.importers import matrix
from tests.importers.architectures import FAMILIES
from tests.importers.architectures import images as pictures
from tests.importers.equivalent.heads import quantised_everywhere
from tests.importers.equivalent.network import graph


def test_the_form_that_is_trained_is_the_model(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """One batch holds all images, so its statistics are those that scale and shift come from."""
    x = data[0]
    values = trainable.start(model, x).values
    own = trainable.Pass(model, values).run(x)
    assert float((own - model.logits(x)).norm() / own.norm()) < 1e-3


def test_what_is_rounded_behind_them_reaches_all_layers(tmp_path: Path) -> None:
    made = graph()
    quantised_everywhere(made)
    onnx.save(made, tmp_path / "rounded.onnx")
    model, x = importers.load(tmp_path / "rounded.onnx"), torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    values = {name: value.requires_grad_() for name, value in trainable.start(model, x).values.items()}
    trainable.Pass(model, values).run(x).logsumexp(1).sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in values.values())


class Strided(nn.Module):
    """Convolutions with one point of each stride, on images whose channels are last, of a size that oneDNN does not survive."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.skip = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 16, 1, 2)
        self.last = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.skip(self.first(x.permute(0, 3, 1, 2)).relu()).relu().mean((2, 3)))
        return y


def test_strided_points_are_trained(export: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    model = importers.load(export("strided", Strided(), shape=(64, 64, 1)))
    x = torch.rand(64, 64, 64, 1, generator=torch.Generator().manual_seed(0))
    values = {name: value.requires_grad_() for name, value in trainable.start(model, x).values.items()}
    trainable.Pass(model, values).run(x).logsumexp(1).sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in values.values())


@pytest.mark.parametrize(("stride", "padding"), [([2, 2], [0, 0]), ([2], [0]), ([3, 1], [0, 0]), ([2, 2], [1, 1])])
def test_points_of_a_stride_have_the_gradients_of_float64(stride: list[int], padding: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 8, 60, 60, generator=generator).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(16, 8, 1, 1, generator=generator, requires_grad=True)
    conv2d = torch.ops.aten.conv2d.default
    args = trainable._thinned(conv2d, (x, weight, None, stride, padding))
    assert (list(args[3]) == [1, 1]) == (padding[0] == 0)
    # what is left as it is does not go through the kernel that ends the process
    own = conv2d(*args) if padding[0] == 0 else conv2d(x.contiguous(), *args[1:])
    own.square().mean().backward()
    exact = weight.detach().double().requires_grad_()
    theirs = conv2d(x.double(), exact, None, stride, padding)
    theirs.square().mean().backward()
    assert torch.allclose(own.double(), theirs, atol=1e-4)
    assert weight.grad is not None
    assert exact.grad is not None
    assert torch.allclose(weight.grad.double(), exact.grad, atol=1e-4)


def test_many_images_are_seen_in_equal_parts(
    model: TracedModel, data: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single image left over would have the say of all others together, and images lie in the order of their classes."""
    monkeypatch.setattr(trainable, "MANY", 6)
    for count in (1, 6, 7, 13, 200):
        parts = trainable.parts(torch.arange(count))
        assert torch.cat(parts).sort().values.equal(torch.arange(count))
        assert max(map(len, parts)) <= min(6, min(map(len, parts)) + 1)
        assert max(int(part[0]) for part in parts) < len(parts)
    values = trainable.start(model, data[0].repeat_interleave(6, 0)).values  # more than are enough
    for name, value in trainable.start(model, data[0]).values.items():
        assert torch.allclose(values[name], value, rtol=1e-4, atol=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("source", ["ONNX 11, old exporter", "ONNX 18, new exporter"])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"vit_token", "vit_multihead", "vit_pooled"}))
def test_untrained_weights_come_back(tmp_path: Path, family: str, source: str) -> None:
    """Into the trained form and back through the file's own weights: the same model."""
    path = matrix.write(family, source, tmp_path)
    if path is None:
        pytest.skip("PyTorch cannot write it")
    model, x = importers.load(path), pictures(16)
    if family == "without norms" and "old" in source:
        with pytest.raises(ModelError, match="computed from others"):  # its weights are standardised inside the graph
            weights.check_invertible(model)
        return
    weights.check_invertible(model)
    back = trainable.finished(model, trainable.start(model, x), x)
    assert back.keys() == weights.writable(model).keys()
    own, again = model.logits(x), answers.logits(model, back, x)
    assert float((own - again).norm() / own.norm()) < 1e-2


def test_constants_of_a_training_are_reached(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """`written` finds weights that fold into given constants, for batch norms beside their convolutions too."""
    generator = torch.Generator().manual_seed(0)
    constants = {}
    for neuron in model.neurons:
        for name in weights.roles(model, neuron):
            if name is not None:
                value = attribute_named(model.module, name)
                constants[name] = value + 0.1 * torch.randn(value.shape, generator=generator)
    reached = model.constants(weights.written(model, constants))
    for name, value in constants.items():
        assert torch.allclose(reached[name], value, atol=1e-5), name


def test_noise_acts_on_scale_and_shift(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """(1 + delta) scale and (1 + xi) shift (Eq. 3), against the same with scale and shift moved by hand."""
    x = data[0][:20]
    values = trainable.start(model, x).values
    name = next(n.removeprefix("scale/") for n in values if n.startswith("scale/"))
    delta, xi = 0.3 * torch.randn(2, len(values[f"scale/{name}"]))
    moved = dict(values)
    moved[f"scale/{name}"], moved[f"shift/{name}"] = values[f"scale/{name}"] * (1 + delta), values[f"shift/{name}"] * (1 + xi)
    assert torch.equal(trainable.Pass(model, values, {name: (delta, xi)}).run(x), trainable.Pass(model, moved).run(x))
    assert not torch.allclose(trainable.Pass(model, values).run(x), trainable.Pass(model, moved).run(x), atol=1e-2)
