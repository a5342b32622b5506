"""Does the gradient of a model lead anywhere? Searches that follow one which does not find nothing, whatever there is to find."""

import torch
from torch import Tensor

from banscan.kernels.ball import length
from banscan.scanner.search.ascent import gradient_at
from banscan.scanner.search.pixel_model import PixelModel, margins
from banscan.scanner.search.spread import evenly

# images that are asked, and the root mean square of a step over their pixels
IMAGES, STEP = 16, 0.01


def astray(model: PixelModel, pixels: Tensor) -> str | None:
    """Why searches by the gradient towards the pixels [N, ...] see nothing; None where a step along it moves the logits as it should.

    Each image is pulled to the class that comes second.
    """
    drawn = evenly(pixels, IMAGES)
    with torch.no_grad():
        second = model.logits(drawn).topk(2, 1).indices[:, 1]
    gradient = gradient_at(lambda rows: margins(model.logits(rows), second).sum(), drawn)
    found = "the gradient of the logits towards the pixels is"
    if not torch.isfinite(gradient).all():
        return f"{found} not finite"
    if not gradient.any():
        return f"{found} zero: something in the graph lets none through"
    with torch.no_grad():
        step = STEP * drawn[0].numel() ** 0.5 * gradient / length(gradient)
        rise = margins(model.logits((drawn + step).clamp(0, 1)), second) - margins(model.logits(drawn), second)
    return None if float(rise.mean()) > 0 else f"{found} misleading: a step along it does not move them"
