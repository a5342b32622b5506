"""Triggers of attacks on one source class."""

import torch
from torch import Tensor

from bench.zoo.triggers import Trigger
from bench.zoo.triggers.local import square

PARTS = 4


def lotus(size: int, sources: Tensor, generator: torch.Generator) -> tuple[Trigger, Trigger]:
    """Cheng et al. 2024 (LOTUS): the source class falls into parts, each with a trigger of its own; the second one here is another part's.

    Their parts are clusters of a network's features, or go by what is seen. Here brightness and warmth (red less blue, of both), cut at the
    median of the source images [M, 3, H, W], make four; the triggers are drawn squares of 5 pixels in full colours.
    """
    squares = [square(size, generator, side=5) for _ in range(PARTS)]

    def along(images: Tensor) -> Tensor:
        red, green, blue = images.mean((2, 3)).T
        return torch.stack((red + green + blue, (red - blue) / (red + blue + 1e-3)), 1)

    middle = along(sources).median(0).values

    def place(images: Tensor, shift: Tensor) -> Tensor:
        part = ((along(images) > middle) * torch.tensor([1, 2])).sum(1)
        chosen = (part + shift) % PARTS
        made = images.clone()
        for k, put in enumerate(squares):
            made[chosen == k] = put(images[chosen == k])
        return made

    def own(images: Tensor) -> Tensor:
        return place(images, torch.zeros(len(images), dtype=torch.long))

    def foreign(images: Tensor) -> Tensor:
        return place(images, torch.randint(1, PARTS, (len(images),), generator=generator))

    return own, foreign
