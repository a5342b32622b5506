"""What the parts of a repair are tried on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from banscan import importers
from banscan.importers import TracedModel
from banscan.scanner.repair import trainable, tuning
from banscan.scanner.repair.settings import Tuning
from banscan.scanner.repair.trainable import State

QUICK = Tuning(epochs=2, batch=40, lr=0.01)
LIMITS = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)


@pytest.fixture(scope="package")
def model(model_file: Path) -> TracedModel:
    return importers.load(model_file)


@pytest.fixture(scope="package")
def data(patterns: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(patterns[0]).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(patterns[1])


def tuned(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor], settings: Tuning, aims: torch.Tensor | None = None) -> State:
    """The state after all epochs."""
    state = trainable.start(model, data[0])
    for _ in range(settings.epochs):
        tuning.epoch(model, state, *data, settings, limits=LIMITS, aims=aims)
    return state
