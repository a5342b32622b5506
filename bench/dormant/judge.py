"""What the criterion says of a network that is at hand as a module."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from banscan.importers import Input, Source, TracedModel
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.scanner.criteria.base import Context
from banscan.scanner.criteria.dormant import DORMANT
from banscan.scanner.findings import Finding
from banscan.scanner.levels import Levels
from banscan.scanner.search.dormant import Searched, search


@dataclass(frozen=True)
class Judged:
    """The clean accuracy, what the search came to, the finding, and the seconds that it took."""

    accuracy: float
    searched: Searched
    finding: Finding
    seconds: float


def traced(module: nn.Module, example: Tensor) -> TracedModel:
    """A module of images [N, 3, H, W] in the normal form, as importers make it of a file."""
    graph = export(Path("model"), module.eval().requires_grad_(False), example[:2])
    height, width = example.shape[2:]
    return normalise(graph, Input("image", "NCHW", 3, height, width), Source(Path("model"), "PyTorch", "bench", None, "", None))


def judge(model: TracedModel, images: Tensor, labels: Tensor) -> Judged:
    """The finding on clean images [N, ...] as the model takes them."""
    with torch.no_grad():
        logits = torch.cat([model.logits(part).cpu() for part in images.split(32)])
    begin = time.perf_counter()
    searched = search(model, images, logits)
    seconds = time.perf_counter() - begin
    found = DORMANT.find(DORMANT, searched, Context(Levels(), torch.arange(model.classes), model.classes, 0))
    return Judged(float((logits.argmax(1) == labels).float().mean()), searched, found, seconds)
