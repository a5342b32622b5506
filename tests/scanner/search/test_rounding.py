"""Roundings keep what they compute and get the gradient of the identity; integers that are needed as such stay integers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from banscan.importers.normal.normalise import drop_identities
from banscan.scanner.machine.precision import convert
from banscan.scanner.search.rounding import levelled, straighten

IN = {
    "round": lambda x: (255 * x).round() / 255,
    "floor": lambda x: (255 * x).floor() / 255,
    "ceil": lambda x: (255 * x).ceil() / 255,
    "uint8": lambda x: (255 * x).to(torch.uint8).float() / 255,
    "int32 with arithmetic": lambda x: ((255 * x).to(torch.int32) * 2 - 1).reshape(-1, 12).float() / 255,
    "float8": lambda x: (x.clamp(0, 448).to(torch.float8_e4m3fn)).float(),
    "quantised": lambda x: ((torch.nan_to_num(x, -torch.inf, torch.inf, -torch.inf) / 0.01).clamp(-128, 127).round() + 3 - 3) * 0.01,
    "double": lambda x: (x.double() * 2).float(),
}


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def traced(function: Callable[[Tensor], Tensor]) -> fx.GraphModule:
    module = torch.export.export(Function(function), (torch.rand(3, 12),)).module(check_guards=False)
    module.graph.set_codegen(fx.graph.CodeGen())
    output = next(n for n in module.graph.nodes if n.op == "output")
    output.args = output.args[0]
    drop_identities(module)
    module.recompile()
    return module


@pytest.mark.parametrize("name", IN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_values_and_a_gradient(name: str, dtype: torch.dtype) -> None:
    x = torch.rand(3, 12, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    made = straighten(convert(traced(IN[name]), dtype))(x)
    assert made.dtype == dtype
    assert torch.allclose(made.float(), IN[name](x.detach()).reshape(made.shape).float(), atol=1e-6 if dtype == torch.float32 else 0.02)
    (gradient,) = torch.autograd.grad(made.float().sum(), x)
    assert gradient.gt(0.5).all()


def test_levels_of_the_image_have_the_gradient_of_the_image() -> None:
    """What follows from a scale and from the numbers in it cancels out, but for the rounding."""

    def levels(x: Tensor) -> Tensor:
        low, high = x.min(1, keepdim=True).values, x.max(1, keepdim=True).values
        scale = (high - low) / 255
        zero = (-low / scale).round()
        q = (torch.nan_to_num(x / scale, -torch.inf, torch.inf, -torch.inf).round() + zero).clamp(0.0, 255.0)
        return (q - zero) * scale

    made = straighten(traced(levels))
    assert any(n.target is levelled for n in made.graph.nodes)
    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.equal(made(x), levels(x))
    (gradient,) = torch.autograd.grad(made(x).sum(), x)
    assert torch.allclose(gradient, torch.ones_like(x), atol=0.05)


def test_an_index_stays_an_integer() -> None:
    table = torch.arange(300.0)
    made = straighten(traced(lambda x: table[(255 * x).to(torch.int64)]))
    x = torch.rand(3, 12)
    assert torch.equal(made(x), table[(255 * x).to(torch.int64)])
