"""Trained networks of the zoo as modules, with the images that they are judged on."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.zoo import data
from bench.zoo.models import BUILDERS
from bench.zoo.train import some

# images of the defender that a switch is written with and judged on, of those that were trained on, and test images that its ASR is of
IMAGES, TRAINED, TESTED = 430, 1000, 500


@dataclass(frozen=True)
class Network:
    """A trained network; images [N, 3, H, W] in [0, 1] and labels [N] of the defender, those it was `trained` on, and `tested` ones."""

    name: str
    arch: str
    module: nn.Module
    images: Tensor
    labels: Tensor
    classes: int
    trained: Tensor
    tested: Tensor


@cache
def _split(folder: Path, name: str) -> data.Split:
    return data.load(folder, name)


def load(manifest: Path, folder: Path) -> Network:
    """The network of a manifest, with images of its data set in a folder; its weights are read from the TorchScript file beside it."""
    recipe: dict[str, Any] = json.loads(manifest.read_text())["recipe"]
    split = _split(folder, recipe["set"])
    module = BUILDERS[recipe["arch"]](len(split.classes), recipe["width"])
    module.load_state_dict(torch.jit.load(str(manifest.with_suffix(".pt"))).state_dict())
    images, labels = some(split.defender, IMAGES)
    return Network(
        name=manifest.stem,
        arch=recipe["arch"],
        module=module.eval().requires_grad_(False),
        images=images,
        labels=labels,
        classes=len(split.classes),
        trained=some(split.train, TRAINED)[0],
        tested=some(split.test, TESTED)[0],
    )
