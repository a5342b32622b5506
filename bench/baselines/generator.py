"""The small networks that change images, in place of the U-Nets of the published programs."""

import torch
from torch import Tensor

from bench.zoo.generators import Translator

# of the untrained network's output; at exactly zero nothing has a gradient
START = 0.3
# of CIFAR-10's pixels, in units of which the papers bound squared changes of normalised images
VARIANCE = 0.0625


class Generator(torch.nn.Module):
    """Images to changed images of the same shape, close to the identity before it is trained; `pixels` keeps them in [0, 1]."""

    def __init__(self, channels: int, axis: int, pixels: bool = True) -> None:
        super().__init__()
        self.change = Translator(channels, inputs=channels)
        self.axis, self.pixels = axis, pixels

    def forward(self, x: Tensor) -> Tensor:
        first = (x if self.axis == 1 else x.permute(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
        made: Tensor = first + START * self.change(first)
        if self.pixels:
            made = made.clamp(0, 1)
        return made if self.axis == 1 else made.permute(0, 2, 3, 1)


def each(networks: torch.nn.ModuleList, images: Tensor) -> Tensor:
    """Every network on its own images, [K, N, ...] → [K, N, ...]."""
    return torch.stack([network(own) for network, own in zip(networks, images, strict=True)])
