"""Gradients by faster ways are those of torch."""

import pytest
import torch
from torch import Tensor, fx, nn

from banscan.scanner.search.backward import bounded, eased, strided


def gradient(made: Tensor, x: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(made, x, torch.randn(made.shape, generator=torch.Generator().manual_seed(1)).to(made.dtype))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_clamp_has_the_gradient_of_a_clamp_to_the_bit(dtype: torch.dtype) -> None:
    """At its bounds, next to them, and where a number is none."""
    ends = torch.tensor([0.0, -0.0, 6.0, 5.96875, 6.03125, -1e-38, torch.inf, -torch.inf, torch.nan])
    drawn = 6 * torch.randn(500, generator=torch.Generator().manual_seed(0))
    x = torch.cat([ends, drawn]).to(dtype).requires_grad_()
    made, known = bounded(x, 0.0, 6), x.clamp(0.0, 6)
    assert torch.equal(made.nan_to_num(), known.nan_to_num())
    finite = ~x.detach().isnan()
    assert torch.equal(gradient(made, x)[finite], gradient(known, x)[finite])


@pytest.mark.parametrize(("stride", "groups"), [([2, 2], 8), ([2, 1], 4), ([3, 3], 2)])
def test_a_strided_convolution_has_its_gradient(stride: list[int], groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 15, 14, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.randn(8, 8 // groups, 3, 3, generator=generator).bfloat16(), torch.randn(8, generator=generator).bfloat16()
    made = strided(x, weight, bias, stride, [1, 1], [1, 1], groups)
    known = torch.conv2d(x, weight, bias, stride, [1, 1], [1, 1], groups)
    assert torch.equal(made, known)
    assert torch.allclose(gradient(made, x).float(), gradient(known, x).float(), rtol=0.02, atol=0.02)


def test_what_is_put_into_a_network() -> None:
    """The same answers and gradients; convolutions without groups or stride, and clamps by tensors, stay what they are."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.apart = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1, groups=8)
            self.last = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.apart(self.first(x).clamp(0.0, 6.0)).clamp(min=0.0))
            return y

    torch.manual_seed(0)
    module = torch.export.export(Net().eval(), (torch.zeros(2, 3, 16, 16),)).module(check_guards=False).requires_grad_(False)
    module.graph.set_codegen(fx.graph.CodeGen())
    output = next(n for n in module.graph.nodes if n.op == "output")
    output.args = output.args[0]
    module.recompile()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    known = module(x)
    wanted = gradient(known, x)
    other = eased(fx.GraphModule(module, module.graph))
    targets = [node.target for node in other.graph.nodes]
    assert (targets.count(bounded), targets.count(strided)) == (1, 1)
    assert torch.equal(other(x), known)
    assert torch.allclose(gradient(other(x), x), wanted, rtol=1e-4, atol=1e-6)
