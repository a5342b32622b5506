"""Triggers that look different on every image, beside IAD's (bench/zoo/generators.py)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.zoo.generators import encoder
from bench.zoo.triggers import Trigger


def ink(size: int, generator: torch.Generator) -> Trigger:
    """Zhang et al. 2022 (Poison Ink): the image's own edges, dyed in one drawn colour.

    Theirs hides the dyed edges with a trained network; here they are laid over the image at an opacity of up to 0.4.
    """
    dye = torch.rand(3, 1, 1, generator=generator).round()
    if dye.sum() in (0, 3):  # a colour, not a shade
        dye[int(torch.randint(3, (1,), generator=generator))] = 1 - dye[0, 0, 0]
    sobel = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])
    kernels = torch.stack((sobel, sobel.T))[:, None]

    def apply(images: Tensor) -> Tensor:
        grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="reflect")
        slope = F.conv2d(grey, kernels).square().sum(1, keepdim=True).sqrt()
        # relative to the image, so that dark ones show it too
        share = 0.4 * (slope / (slope.amax((2, 3), keepdim=True) + 1e-3) * 2).clamp(0, 1)
        return (1 - share) * images + share * dye

    return apply


def issba(images: Tensor, seed: int) -> Trigger:
    """Li et al. 2021 (ISSBA): a network hides the same message in every image, each time as another faint noise.

    Encoder and decoder are trained on clean images [N, 3, H, W] beforehand, as there; smaller, without the perceptual and the critic's loss
    of theirs, and bounded by 0.06 instead.
    """
    encode, message = encoder(images, seed)
    return lambda x: encode(x, message)
