"""Does the traced graph compute what the file computes? Checked on the user's own images at every scan."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from banscan.errors import BanscanError, EvidenceError
from banscan.importers import formats
from banscan.importers.model import TracedModel

# outputs below this are nothing to compare with
SMALLEST = 1e-12
# images at once for an answer whose first axis is not that of the images
FEW = 64


@dataclass(frozen=True)
class Parity:
    """Traced against source outputs: relative RMS difference and the largest difference over the largest output."""

    rms: float
    largest: float
    images: int


@torch.no_grad()
def parity(model: TracedModel, images: Tensor) -> Parity | None:
    """Compares on preprocessed images [N, ...]; outputs that were stripped off the graph are put back for the comparison.

    None for a format without a second runtime.

    Raises:
        EvidenceError: that runtime cannot run the file.
    """
    run = formats.of(model.source).run
    if run is None:
        return None
    try:
        axis = model.output_axis
        parts = images.split(FEW if axis else len(images))
        theirs = np.concatenate([np.moveaxis(run(model.source, part.numpy()), axis, 0) for part in parts])
    except Exception as error:  # onnxruntime's own errors have no base of their own
        if isinstance(error, BanscanError):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise EvidenceError(
            f"{model.source.format}'s own runtime cannot run the file ({reason}); what was read cannot be checked"
        ) from error
    ours = model.outputs(model.logits(images[: len(theirs)])).movedim(axis, 0)
    if theirs.size == 0:
        return Parity(float("nan"), float("nan"), 0)
    difference = ours.double().numpy().reshape(theirs.shape) - theirs
    typical = max(float(np.sqrt(np.mean(np.square(theirs, dtype=np.float64)))), SMALLEST)
    largest = max(float(np.abs(theirs).max()), SMALLEST)
    rms = float(np.sqrt(np.mean(difference**2))) / typical
    return Parity(rms, float(np.abs(difference).max()) / largest, len(theirs))
