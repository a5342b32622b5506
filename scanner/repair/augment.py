"""Random crops and mirror images, as training uses them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.repair.layout import channels_innermost

# a crop after padding by this share of the side
CROP = 8


def augment(images: Tensor, flip: bool, generator: torch.Generator, layout: str) -> Tensor:
    """Random crops after reflection and, if asked for, mirrored halves; images [N, ...] in the model's layout."""
    x = images if layout == "NCHW" else images.movedim(-1, 1)
    count, _, height, width = x.shape
    pads = height // CROP, width // CROP
    padded = F.pad(x, (pads[1], pads[1], pads[0], pads[0]), mode="reflect")
    index = torch.arange(count)[:, None, None]
    rows, columns = (
        torch.randint(0, 2 * pad + 1, (count, 1), generator=generator) + torch.arange(size)
        for pad, size in zip(pads, (height, width), strict=True)
    )
    x = padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    mirrored = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    x = channels_innermost(torch.where(mirrored[:, None, None, None], x.flip(3), x))
    return x if layout == "NCHW" else x.movedim(1, -1)
