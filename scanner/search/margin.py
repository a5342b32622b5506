"""The largest margin that any image gives a class (Wang et al., "MM-BD", IEEE S&P 2024).

Training on a trigger that always wins raises how sure a model can become of the target class far above what it can become of others,
whatever kind of trigger it is; no trigger has to be found to see it.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from banscan.scanner.search.ascent import Drawn, climb, normed_step, uphill
from banscan.scanner.search.pixel_model import PixelModel, margins

# root mean square of one step over the pixels
STEP = 0.01


def largest_margins(
    model: PixelModel,
    pixels: Tensor,
    targets: Tensor,
    *,
    starts: int,
    steps: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Margin [K, T] that gradient ascent over all pixels in [0, 1] reaches for every target [T], from K drawn clean images each."""
    generator = torch.Generator().manual_seed(seed)
    target = targets.repeat(starts).to(model.device)
    images = pixels[torch.randint(len(pixels), (len(target),), generator=generator)]

    def margin(rows: Tensor, own: slice, drawn: Drawn) -> Tensor:
        return margins(model.logits(rows), target[own]).sum()

    found = climb(
        images,
        uphill(margin, partial(normed_step, stride=STEP * images[0].numel() ** 0.5)),
        steps=steps,
        project=lambda rows: rows.clamp_(0, 1),
        at_once=model.at_once,
        progress=progress,
    )
    with torch.no_grad():
        parts = zip(found.split(model.at_once), target.split(model.at_once), strict=True)
        reached = [margins(model.logits(part), t).cpu() for part, t in parts]
    return torch.cat(reached).reshape(starts, len(targets))
