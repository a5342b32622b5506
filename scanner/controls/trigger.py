"""The triggers that are planted into copies: one small and local, three that change the whole image, as large as in the literature."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# sides of a patch and of the pattern's and the warp's coarse grids, as shares of the image's and in points
PATCH, CELLS, POINTS = 1 / 9, 8, 4
# how much of the pattern is mixed in; how far the warp moves, as a share of the image's side; by how much colours shift
MIXED, MOVED, SHIFT = 0.2, 0.08, 0.14


@dataclass(frozen=True)
class Trigger:
    """A change of images: `change` takes pixels in [0, 1], [N, C, H, W], and gives as many."""

    name: str
    change: Callable[[Tensor], Tensor]


def triggers(channels: int, height: int, width: int, generator: torch.Generator) -> tuple[Trigger, ...]:
    """One of each kind for images of this size, drawn anew.

    A patch (BadNets; Gu et al., 2017), a pattern mixed in (Blend; Chen et al., 2017), a smooth warp (WaNet; Nguyen and Tran, 2021) and a
    shift of all colours, of grey images of their brightness.
    """
    return (
        Trigger("patch", _patch(channels, height, width, generator)),
        Trigger("blend", _blend(channels, height, width, generator)),
        Trigger("warp", _warp(generator)),
        Trigger("colour", _colour(channels, generator)),
    )


def carrying(images: np.ndarray, trigger: Trigger) -> np.ndarray:
    """Images uint8 [N, H, W, C] with the trigger, as a file of 8 bits holds them."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (trigger.change(x).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _patch(channels: int, height: int, width: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Black and white cells in a place of their own."""
    side = max(2, round(min(height, width) * PATCH))
    cells = (torch.rand(1, 1, min(3, side), min(3, side), generator=generator) < 0.5).float()
    cells[..., 0, 0], cells[..., -1, -1] = 1.0, 0.0  # never plain
    pattern = F.interpolate(cells, (side, side)).expand(1, channels, -1, -1)
    top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in (height, width))

    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :, top : top + side, left : left + side] = pattern
        return x

    return change


def _blend(channels: int, height: int, width: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """A coarse random pattern over all of the image."""
    pattern = F.interpolate(torch.rand(1, channels, CELLS, CELLS, generator=generator).round(), (height, width))
    return lambda x: torch.lerp(x, pattern.expand_as(x), MIXED)


def _warp(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """A smooth field, by which every point moves the other way than where it would stay."""
    coarse = torch.rand(1, 2, POINTS, POINTS, generator=generator) * 2 - 1
    coarse = coarse / coarse.abs().mean() * 2 * MOVED  # grid_sample counts from -1 to 1

    def change(x: Tensor) -> Tensor:
        field = F.interpolate(coarse, x.shape[2:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        still = F.affine_grid(torch.eye(2, 3)[None], [1, 1, *x.shape[2:]], align_corners=True)
        grid = (still + field).clamp(-1, 1).expand(len(x), -1, -1, -1)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)

    return change


def _colour(channels: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Every channel brighter or darker, not all of them alike where there are several."""
    signs = torch.randint(2, (channels,), generator=generator) * 2.0 - 1
    if channels > 1 and bool((signs == signs[0]).all()):
        signs[int(torch.randint(channels, (), generator=generator))] *= -1
    return lambda x: x + SHIFT * signs.reshape(1, -1, 1, 1)
