"""Does the gradient of a model lead anywhere? Searches that follow one which does not find nothing, whatever there is to find."""

import torch
from torch import Tensor

from banscan.kernels.ball import length
from banscan.scanner.search.ascent import gradient_at
from banscan.scanner.search.pixel_model import PixelModel, margins
from banscan.scanner.search.spread import evenly

# images that are asked, and the root mean square of a step over their pixels
IMAGES, STEP = 16, 0.01
# half of a step of 8 bits: images that differ by less may be the same file
WITHIN = 0.5 / 255
# the cosine between gradients at two such images: near 1 in a network, near 0 where a graph adds a sine of the pixels that no file of 8
# bits shows
STEADY = 0.4


def astray(model: PixelModel, pixels: Tensor) -> str | None:
    """Why searches by the gradient towards the pixels [N, ...] see nothing; None where a step along it moves the logits as it should.

    Each image is pulled to the class that comes second. A gradient may be right at the images themselves and lead nowhere beside them,
    where every search begins (Athalye et al., "Obfuscated gradients", ICML 2018), so images that round to the same are asked as well.
    """
    drawn = evenly(pixels, IMAGES)
    with torch.no_grad():
        second = model.logits(drawn).topk(2, 1).indices[:, 1]

    def uphill(images: Tensor) -> Tensor:
        return gradient_at(lambda rows: margins(model.logits(rows), second).sum(), images)

    gradient = uphill(drawn)
    found = "the gradient of the logits towards the pixels is"
    if not torch.isfinite(gradient).all():
        return f"{found} not finite"
    if not gradient.any():
        return f"{found} zero: something in the graph lets none through"
    with torch.no_grad():
        step = STEP * drawn[0].numel() ** 0.5 * gradient / length(gradient)
        rise = margins(model.logits((drawn + step).clamp(0, 1)), second) - margins(model.logits(drawn), second)
    if not float(rise.mean()) > 0:
        return f"{found} misleading: a step along it does not move them"
    aside = (torch.rand(drawn.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(drawn.device) * WITHIN
    alike = torch.cosine_similarity(gradient.flatten(1), uphill((drawn + aside).clamp(0, 1)).flatten(1), 1)
    return None if float(alike.median()) >= STEADY else f"{found} misleading: it turns between images that are the same in 8 bits"
