"""Numbers that stay known while a graph is traced, for code that computes shapes with tensors."""

import torch
from torch import Tensor, nn

from banscan.importers.onnx.known import Held


class Shaped(nn.Module):
    """A shape by tensors, as onnx2torch writes it; a constant beside an image; one of a table's values by its place."""

    def __init__(self) -> None:
        super().__init__()
        self.shape, self.axes, self.table = Held(torch.tensor([0, -1])), Held(torch.tensor([2, 1])), Held(torch.tensor([[3, 4], [5, 6]]))

    def forward(self, x: Tensor) -> Tensor:
        shape = self.shape()
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)] if torch.any(shape == 0) else shape.tolist()
        x = x.mean(sorted((self.axes() + 1).tolist()), keepdim=True)
        for axis in torch.sort(self.axes() + 1, descending=True).values:
            x = torch.squeeze(x, dim=axis)
        x = torch.reshape(x, torch.Size(sizes)) + self.table()[1, 0] + self.table().sum()
        return x * self.axes().to(torch.float32).sum()


def test_values_count_while_tracing() -> None:
    module, x = Shaped(), torch.rand(5, 3, 4, 4)
    free = ({0: torch.export.Dim.DYNAMIC},)
    traced = torch.export.export(module, (torch.rand(2, 3, 4, 4),), dynamic_shapes=free, strict=False).module()
    assert torch.allclose(traced(x), (x.mean((2, 3)) + 5 + 18) * 3)
    assert torch.allclose(module(x), traced(x))
