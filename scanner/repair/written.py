"""The tuned model as a file of the given one's format: written, read again, and compared with what was tuned."""

from pathlib import Path

import torch
from torch import Tensor

from banscan import importers
from banscan.errors import BanscanError
from banscan.files import whole
from banscan.importers import Parity, TracedModel, writer
from banscan.scanner.inputs import checks
from banscan.scanner.repair import answers


def write(model: TracedModel, weights: dict[str, Tensor], output: Path, shown: Tensor) -> Parity:
    """Writes the model with these of the file's weights; only a file that agrees with it on the images `shown` [N, ...] gets its name.

    Returns:
        How the written file agrees with the graph that is read from it, under its own runtime.

    Raises:
        BanscanError: it does not agree.
        UsageError: it cannot be written.
    """
    height, width = shown.shape[2:4] if model.input.layout == "NCHW" else shown.shape[1:3]
    with whole(output) as place:
        writer.write(model, {name: value.cpu() for name, value in weights.items()}, place)
        again = importers.load(place, (height, width), model.source.output, again=model.source.reader is not None)
        own = importers.parity(again, shown)
        with torch.no_grad():
            tuned, read = answers.logits(model, weights, shown).cpu(), again.logits(shown)
        difference = float((tuned - read).norm() / tuned.norm())
        if own is None or not max(own.rms, difference) <= checks.PARITY[again.source.precision]:
            raise BanscanError(
                f"{output}: the written file would differ from the tuned model by {difference:.1e} relative RMS; nothing was written"
            )
    return own
