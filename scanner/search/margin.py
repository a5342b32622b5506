"""The largest margin that any image gives a class (Wang et al., "MM-BD", IEEE S&P 2024).

Training on a trigger that always wins raises how sure a model can become of the target class far above what it can become of others,
whatever kind of trigger it is; no trigger has to be found to see it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from banscan.kernels.ball import length
from banscan.scanner.search.pixel_model import MOMENTUM, PixelModel, margins

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
    images = pixels[torch.randint(len(pixels), (len(target),), generator=generator)].clone()
    momentum = torch.zeros_like(images)
    scale = STEP * images[0].numel() ** 0.5
    for _ in range(steps):
        for first in range(0, len(images), model.at_once):
            rows = slice(first, first + model.at_once)
            part = images[rows].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(margins(model.logits(part), target[rows]).sum(), part)
            momentum[rows] = MOMENTUM * momentum[rows] + gradient / length(gradient)
            images[rows] = (images[rows] + scale * momentum[rows]).clamp(0, 1)
            progress(len(part))
    with torch.no_grad():
        parts = zip(images.split(model.at_once), target.split(model.at_once), strict=True)
        reached = [margins(model.logits(part), t).cpu() for part, t in parts]
    return torch.cat(reached).reshape(starts, len(targets))
