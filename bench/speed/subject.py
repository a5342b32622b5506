"""The networks that are timed: full graphs with random weights and random images, since speed does not depend on their values."""

import tempfile
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from banscan import importers
from banscan.importers import TracedModel
from bench.zoo.models import BUILDERS


@dataclass(frozen=True)
class Subject:
    """A network as its author has it, in training code, and as banscan reads it from a file."""

    name: str
    module: nn.Module
    model: TracedModel
    size: int
    classes: int
    width: int
    device: torch.device

    def images(self, count: int) -> tuple[Tensor, Tensor]:
        """Random images [N, 3, H, W], on the CPU, and labels [N]."""
        generator = torch.Generator().manual_seed(0)
        shape = (count, 3, self.size, self.size)
        return torch.rand(shape, generator=generator), torch.randint(self.classes, (count,), generator=generator)


@lru_cache(maxsize=1)
def subject(architecture: str, size: int, classes: int, width: int, device: torch.device) -> Subject:
    """Builds a network, writes it as TorchScript and reads that; the last one is kept."""
    torch.manual_seed(0)
    module = BUILDERS[architecture](classes, width).to(device)
    module.train()
    with torch.no_grad():  # statistics of batch norm that fit the weights, as after training
        for _ in range(20):
            module(torch.rand(16, 3, size, size).to(device))
    module.eval().cpu()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.pt"
        torch.jit.save(torch.jit.trace(module, torch.zeros(2, 3, size, size)), str(path))
        model = importers.load(path)
    model.to(device)
    return Subject(f"{architecture} {size}x{size}, {classes} classes", module.to(device), model, size, classes, width, device)
