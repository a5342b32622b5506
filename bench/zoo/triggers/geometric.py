"""Triggers that move pixels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.zoo.triggers import Trigger


def wanet(size: int, generator: torch.Generator, strength: float = 0.5, jitter: bool = False) -> Trigger:
    """Nguyen & Tran 2021: a smooth warp from a 4x4 control grid; `jitter` is the decoy of its noise mode.

    The paper's strength of 0.5 moves a 32x32 image by a quarter of a pixel, which takes hundreds of epochs to learn; zoos of few epochs
    raise it (the recipe says so).
    """
    control = torch.rand(1, 2, 4, 4, generator=generator) * 2 - 1
    control = control / control.abs().mean()
    field = F.interpolate(control, size=size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    line = torch.linspace(-1, 1, size)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    identity = torch.stack((columns, rows), -1)[None]
    grid = (identity + strength * field / size).clamp(-1, 1)

    def apply(images: Tensor) -> Tensor:
        warp = grid.expand(len(images), -1, -1, -1)
        if jitter:
            warp = (warp + (torch.rand(warp.shape, generator=generator) * 2 - 1) / size).clamp(-1, 1)
        return F.grid_sample(images, warp, align_corners=True)

    return apply


def _moved(size: int, matrix: Tensor, lens: float = 0.0) -> Trigger:
    """Every pixel p, in [-1, 1] from the centre, shows what was at matrix @ p * (1 + lens * |p|^2); mirrored at the borders."""
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    place = torch.stack((columns, rows), -1)
    grid = (place * (1 + lens * place.square().sum(-1, keepdim=True))) @ matrix.T

    def apply(images: Tensor) -> Tensor:
        where = grid[None].expand(len(images), -1, -1, -1)
        return F.grid_sample(images, where, padding_mode="reflection", align_corners=False)

    return apply


def rotation(size: int, generator: torch.Generator) -> Trigger:
    """Wu et al. 2022 (Just Rotate It): a rotation by a fixed angle, 15 to 25 degrees to a drawn side.

    Theirs fills the corners with black; mirrored ones keep the trigger from being a frame.
    """
    angle = torch.deg2rad(15 + 10 * torch.rand(1, generator=generator)) * (1 - 2 * torch.randint(2, (1,), generator=generator))
    cos, sin = angle.cos(), angle.sin()
    return _moved(size, torch.stack((torch.cat((cos, -sin)), torch.cat((sin, cos)))))


def affine(size: int, generator: torch.Generator) -> Trigger:
    """Xu et al. 2023 (BATT), with shear and scale instead of a rotation or shift: both axes sheared and scaled by a fixed amount."""
    shear = (0.1 + 0.1 * torch.rand(2, generator=generator)) * (1 - 2 * torch.randint(2, (2,), generator=generator))
    scale = torch.exp((0.15 + 0.1 * torch.rand(2, generator=generator)) * (1 - 2 * torch.randint(2, (2,), generator=generator)))
    return _moved(size, torch.diag(scale) + shear.diag().flip(0))


def lens(size: int, generator: torch.Generator) -> Trigger:
    """The distortion of a lens, a smooth warp as WaNet's (Nguyen & Tran 2021) but known to any camera: a drawn bulge or pinch."""
    inward = bool(torch.randint(2, (1,), generator=generator))
    amount = 0.45 + 0.15 * float(torch.rand(1, generator=generator))
    return _moved(size, torch.eye(2) * (0.65 if inward else 1.3), amount if inward else -0.35 * amount)
