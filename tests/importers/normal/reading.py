"""Modules read without a file, for tests of the normal form alone."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from banscan.importers import Input, Source, TracedModel
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from tests.importers.equivalent.network import CHANNELS, SIZE, network


class Behind(nn.Module):
    """A function behind a network."""

    def __init__(self, net: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.function = net, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.net(x))


def read(module: nn.Module) -> TracedModel:
    """A module of images [N, 3, 16, 16] in the normal form."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    traced = export(Path("model"), module.eval(), torch.zeros(2, CHANNELS, SIZE, SIZE))
    return normalise(traced, Input("image", "NCHW", CHANNELS, SIZE, SIZE), Source(Path("model"), "ONNX", "test", None, "", None))


def behind(function: Callable[[Tensor], Tensor]) -> TracedModel:
    """The network of seven classes with a function behind it."""
    return read(Behind(network(), function))


def images(count: int = 6) -> Tensor:
    """[N, 3, 16, 16]."""
    return torch.rand(count, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
