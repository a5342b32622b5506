"""The structure of a model file, looked at and run by the confined process."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers import sandbox
from banscan.importers.model import Input
from banscan.importers.sandbox.budget import forcing, reading
from banscan.importers.structure import finding
from banscan.importers.structure.finding import Look, Structure

# seconds of CPU for setting switches, one after another
SECONDS = 60.0
NO_LOOK = "its answer of the structure is none; refused"


def look(path: Path, logits: str | None = None) -> Look | None:
    """What of a file's graph decides by the pixels; None for a file of no known format.

    Raises:
        ModelError: the file is damaged or refused, or has no single input for images.
        UsageError: it has no output of this name.
    """
    given, _ = sandbox.call("look", {"path": str(path), "logits": logits}, None, path=path, budget=reading(path))
    if given is None:
        return None
    try:
        return Look(finding.restored(given["structure"]), bool(given["unsettled"]), Input(**given["input"]), int(given["classes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: {NO_LOOK}") from error


def examine(path: Path, images: Tensor, pixels: tuple[float, float], logits: str | None = None) -> tuple[Structure, dict[str, Any] | None]:
    """What becomes of a file's answers for preprocessed images [N, ...] when what decides by the pixels decides otherwise.

    Args:
        pixels: the smallest and the largest value that a pixel can have.

    Returns:
        The places found; and what `importers.load` takes as `settled` to read the network without them, None where nothing has to go.

    Raises:
        ModelError: as of `look`.
    """
    arguments = {"path": str(path), "logits": logits, "pixels": list(pixels), "seconds": SECONDS}
    budget = forcing(path, SECONDS, torch.get_num_threads())
    given, _ = sandbox.call("examine", arguments, {"images": images.contiguous()}, path=path, budget=budget)
    try:
        settled = given["settled"]
        return finding.restored(given["structure"]), settled if settled["tensors"] or settled["numbers"] else None
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: {NO_LOOK}") from error
