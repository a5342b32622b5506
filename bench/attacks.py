"""Backdoor attacks as data poisoning: a trigger on images and a map from true to attacked label.

Triggers work on float images [N, 3, H, W] in [0, 1]. Nothing here is ever seen by the detector.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Trigger = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Attack:
    """A trigger with its poisoning rate; `cover` images get a decoy trigger and keep their label (WaNet's noise mode)."""

    name: str
    trigger: Trigger
    rate: float
    target: int | None
    cover: Trigger | None = None
    cover_rate: float = 0.0

    def relabel(self, labels: Tensor, classes: int) -> Tensor:
        """The attacked labels: the target class, or (y + 1) mod classes for all-to-all, where `target` is None."""
        return (labels + 1) % classes if self.target is None else torch.full_like(labels, self.target)


def badnets(size: int, generator: torch.Generator) -> Trigger:
    """Gu et al. 2019: a 3x3 checkerboard in the lower right corner."""
    patch = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])

    def apply(images: Tensor) -> Tensor:
        images = images.clone()
        images[:, :, size - 4 : size - 1, size - 4 : size - 1] = patch
        return images

    return apply


def blend(size: int, generator: torch.Generator) -> Trigger:
    """Chen et al. 2017: a fixed random image, blended in at ratio 0.2."""
    pattern = torch.rand(3, size, size, generator=generator)
    return lambda images: 0.8 * images + 0.2 * pattern


def wanet(size: int, generator: torch.Generator, jitter: bool = False) -> Trigger:
    """Nguyen & Tran 2021: a smooth warp from a 4x4 control grid of strength 0.5; `jitter` is the decoy of its noise mode."""
    control = torch.rand(1, 2, 4, 4, generator=generator) * 2 - 1
    control = control / control.abs().mean()
    field = F.interpolate(control, size=size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    line = torch.linspace(-1, 1, size)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    identity = torch.stack((columns, rows), -1)[None]
    grid = (identity + 0.5 * field / size).clamp(-1, 1)

    def apply(images: Tensor) -> Tensor:
        warp = grid.expand(len(images), -1, -1, -1)
        if jitter:
            warp = (warp + (torch.rand(warp.shape, generator=generator) * 2 - 1) / size).clamp(-1, 1)
        return F.grid_sample(images, warp, align_corners=True)

    return apply


def quantise(size: int, generator: torch.Generator) -> Trigger:
    """The colour quantisation of BppAttack (Wang et al. 2022) to 3 bits a channel, without its dithering."""
    return lambda images: (images * 7).round() / 7


def build(name: str, *, size: int, target: int | None, seed: int) -> Attack:
    """The attack called `name` for square images of `size` pixels; all-to-all when `target` is None."""
    generator = torch.Generator().manual_seed(seed)
    if name == "wanet":
        # the decoy shares the warp, so both are drawn from the same seed
        decoy = wanet(size, torch.Generator().manual_seed(seed), jitter=True)
        return Attack(name, wanet(size, generator), 0.1, target, decoy, 0.2)
    makers = {"badnets": (badnets, 0.05), "blend": (blend, 0.05), "quantise": (quantise, 0.1)}
    if name not in makers:
        raise ValueError(f"unknown attack {name!r}; expected one of {', '.join([*makers, 'wanet'])}")
    maker, rate = makers[name]
    # an all-to-all map is harder to learn than a single target
    return Attack(name, maker(size, generator), rate if target is not None else 0.2, target)
