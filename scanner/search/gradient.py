"""Does the gradient of a model lead anywhere? Searches that follow one which does not find nothing, whatever there is to find."""

import torch
from torch import Tensor

from banscan.kernels.ball import length
from banscan.scanner.search.ascent import gradient_at
from banscan.scanner.search.pixel_model import PixelModel, margins
from banscan.scanner.search.spread import evenly

# images that are asked, and the root mean squares of steps over their pixels, at one of which at least any network goes uphill: a small one
# may be lost in roundings, a large one leaves what is nearly straight
IMAGES, STEPS = 16, (0.002, 0.01)
# half of a step of 8 bits: images that differ by less may be the same file
WITHIN = 0.5 / 255
# the cosine between gradients at two such images: near 1 in a network, near 0 where a graph adds a sine of the pixels that no file of 8
# bits shows
STEADY = 0.4
# images that every class is asked of, fewer where a pass through the network is dear, and classes that a sentence names
EACH, DEAR, NAMED = 8, 4, 3
FOUND = "the gradient of the logits towards the pixels is"


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
    if not torch.isfinite(gradient).all():
        return f"{FOUND} not finite"
    if not gradient.any():
        return f"{FOUND} zero: something in the graph lets none through"
    if not bool((_rises(model, drawn, gradient, second)[0].mean(1) > 0).any()):
        return f"{FOUND} misleading: a step along it does not move them"
    aside = (torch.rand(drawn.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(drawn.device) * WITHIN
    alike = torch.cosine_similarity(gradient.flatten(1), uphill((drawn + aside).clamp(0, 1)).flatten(1), 1)
    return None if float(alike.median()) >= STEADY else f"{FOUND} misleading: it turns between images that are the same in 8 bits"


def turned(model: PixelModel, pixels: Tensor, classes: Tensor, each: int = EACH) -> str | None:
    """Which of the classes [T] the gradient towards the pixels [N, ...] leads away from; None where it leads to them all.

    A graph may turn the gradient of a single logit around and leave its value as it is. So many images are asked of `each` class.
    """
    away = downhill(model, evenly(pixels, each), classes)
    if not away:
        return None
    named = ", ".join(map(str, away[:NAMED])) + (f" and {len(away) - NAMED} more" if len(away) > NAMED else "")
    which = f"class {named}" if len(away) == 1 else f"classes {named}"
    return f"{FOUND} misleading: a step along it moves them away from {which}, where it should lead"


def downhill(model: PixelModel, images: Tensor, classes: Tensor) -> list[int]:
    """Those of the classes [T] whose margin falls, in the mean over the images [M, ...] of others, by each step along its own gradient."""
    rises = torch.zeros(len(STEPS), len(classes))
    for place, aim in enumerate(classes.tolist()):
        for part in images.split(max(1, model.at_once)):
            target = torch.full((len(part),), aim, device=part.device)
            gradient = gradient_at(lambda rows, target=target: margins(model.logits(rows), target).sum(), part)  # type: ignore[misc]
            found, before = _rises(model, part, gradient, target)
            rises[:, place] += found[:, before < 0].sum(1).cpu()
    return classes[(rises < 0).all(0).to(classes.device)].tolist()


@torch.no_grad()
def _rises(model: PixelModel, images: Tensor, gradient: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """By how much each of the steps along the gradient raises the margin [S, M] of each image's target, and the margin [M] before."""
    direction = images[0].numel() ** 0.5 * gradient / length(gradient)
    before = margins(model.logits(images), target)
    return torch.stack([margins(model.logits((images + step * direction).clamp(0, 1)), target) - before for step in STEPS]), before
