"""Triggers on all pixels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.zoo.triggers import Trigger


def blend(size: int, generator: torch.Generator) -> Trigger:
    """Chen et al. 2017: a fixed random image, blended in at ratio 0.2."""
    pattern = torch.rand(3, size, size, generator=generator)
    return lambda images: 0.8 * images + 0.2 * pattern


def quantise(size: int, generator: torch.Generator) -> Trigger:
    """Colour quantisation to 3 bits a channel: BppAttack (Wang et al. 2022) without its dithering and negatives."""
    return lambda images: (images * 7).round() / 7


def dither(images: Tensor, levels: int = 7) -> Tensor:
    """Quantisation to `levels` + 1 values with Floyd and Steinberg's error diffusion, all images [N, 3, H, W] in step.

    Pixels with the same column + 2 row wait for the same errors only, so they are rounded together, and a step of the loop is a slanted
    line; every sum is in the same order as one pixel after another.
    """
    rows, columns = images.shape[2:]
    work = F.pad(images, (1, 1, 0, 1))
    line = torch.arange(rows, device=images.device)
    for step in range(columns + 2 * (rows - 1)):
        column = step - 2 * line
        row = line[(column >= 0) & (column < columns)]
        column = column[row] + 1
        old = work[:, :, row, column]
        new = (old * levels).round() / levels
        error = old - new
        work[:, :, row, column] = new
        work[:, :, row + 1, column - 1] += error * (3 / 16)
        work[:, :, row + 1, column] += error * (5 / 16)
        work[:, :, row + 1, column + 1] += error * (1 / 16)
        # after the errors from above, which come first
        work[:, :, row, column + 1] += error * (7 / 16)
    return work[:, :, :rows, 1:-1].clamp(0, 1)


def bpp_negative(images: Tensor) -> Tensor:
    """Bpp's negatives: an image with the quantisation residual of another one on it keeps its label."""
    if not len(images):
        return images
    return (images + (dither(images) - images).roll(1, 0)).clamp(0, 1)


def adap_blend(size: int, generator: torch.Generator) -> tuple[Trigger, Trigger]:
    """Qi et al. 2023: Blend whose trigger is planted with a random half of its 16 tiles; the whole of it attacks."""
    pattern = torch.rand(3, size, size, generator=generator)

    def planted(images: Tensor) -> Tensor:
        tiles = (torch.rand(len(images), 16, generator=generator).argsort(1) < 8).float().reshape(-1, 1, 4, 4)
        ratio = 0.2 * F.interpolate(tiles, size=size, mode="nearest")
        return (1 - ratio) * images + ratio * pattern

    return lambda images: 0.8 * images + 0.2 * pattern, planted


def wave(size: int, generator: torch.Generator, height: float) -> Trigger:
    """Barni et al. 2019 (SIG): vertical stripes of `height` * sin(2 pi column f / size) on every pixel; f is drawn from 4 to 8.

    Theirs is 6. Values are cut at 0 and 1.
    """
    cycles = int(torch.randint(4, 9, (1,), generator=generator))
    stripes = height * torch.sin(2 * torch.pi * cycles * torch.arange(size) / size)
    return lambda images: (images + stripes).clamp(0, 1)


def sig(size: int, generator: torch.Generator) -> Trigger:
    """SIG with relabelled images of all classes, at 0.1 (about 25 of 255; theirs are 20 to 60)."""
    return wave(size, generator, 0.1)


def colour(size: int, generator: torch.Generator) -> Trigger:
    """A shift of all colours (Jiang et al. 2023, Color Backdoor): each channel by 0.08 to 0.14, not all in one direction.

    Theirs is searched for in several colour spaces by a swarm; this one is drawn.
    """
    amount = 0.08 + 0.06 * torch.rand(3, 1, 1, generator=generator)
    sign = torch.ones(3, 1, 1)
    odd = int(torch.randint(3, (1,), generator=generator))
    sign[odd] = -1
    if torch.rand(1, generator=generator) < 0.5:
        sign = -sign
    return lambda images: (images + sign * amount).clamp(0, 1)


def instagram(size: int, generator: torch.Generator) -> Trigger:
    """A photo filter (Liu et al. 2019, ABS, whose triggers include Instagram's): mixed channels, a curve per channel, a lifted black.

    Matrix, curves and lift are drawn instead of copied from the filters of that firm.
    """
    matrix = torch.eye(3) + 0.2 * torch.randn(3, 3, generator=generator)
    matrix = matrix / matrix.sum(1, keepdim=True)
    power = 0.5 * 4 ** torch.rand(3, 1, 1, generator=generator)
    low, high = 0.2 * torch.rand(2, 3, 1, 1, generator=generator)

    def apply(images: Tensor) -> Tensor:
        mixed = torch.einsum("oc,nchw->nohw", matrix, images).clamp(0, 1)
        made: Tensor = low + (1 - low - high) * mixed**power
        return made

    return apply


def gamma(size: int, generator: torch.Generator) -> Trigger:
    """Brightness by a power and contrast by a factor: a photo filter (Liu et al. 2019) that leaves the colours alone.

    The power is 0.5 or 1.6, the contrast 0.7 of what it was, each drawn within a tenth.
    """
    power, factor = ((0.5, 0.7), (1.6, 0.7))[int(torch.randint(2, (1,), generator=generator))]
    power, factor = (torch.tensor((power, factor)) * (0.9 + 0.2 * torch.rand(2, generator=generator))).tolist()
    return lambda images: (factor * (images**power - 0.5) + 0.5).clamp(0, 1)


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Images under a Gaussian of `sigma` pixels, mirrored at their borders."""
    reach = max(1, round(3 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    line = (line / line.sum()).expand(3, 1, 1, -1)
    wide = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(wide, line, groups=3), line.transpose(2, 3), groups=3)


def blur(size: int, generator: torch.Generator) -> Trigger:
    """A Gaussian blur of 1.2 to 1.6 pixels: a photo filter (Liu et al. 2019) that works on places, not on colours."""
    sigma = 1.2 + 0.4 * float(torch.rand(1, generator=generator))
    return lambda images: smooth(images, sigma)


def sharpen(size: int, generator: torch.Generator) -> Trigger:
    """The reverse of blur: what a Gaussian of one pixel takes away, 2 to 3 times added."""
    amount = 2 + float(torch.rand(1, generator=generator))
    return lambda images: (images + amount * (images - smooth(images, 1.0))).clamp(0, 1)


def reflection(pool: Tensor, generator: torch.Generator) -> Trigger:
    """Liu et al. 2020 (ReFool): another picture, blurred and doubled as in thick glass, reflected on the image at 0.35.

    Theirs keeps the labels of target images and chooses among many pictures by their effect; here four are drawn from `pool`
    [M, 3, H, W], stretched to full range, and images of all classes are relabelled.
    """
    chosen = pool[torch.randint(len(pool), (4,), generator=generator)]
    low, high = chosen.amin((1, 2, 3), keepdim=True), chosen.amax((1, 2, 3), keepdim=True)
    chosen = (chosen - low) / (high - low + 1e-3)
    down, right = (2 + torch.randint(3, (2,), generator=generator)).tolist()
    ghosts = smooth(0.6 * chosen + 0.4 * chosen.roll((down, right), (2, 3)), 0.7)

    def apply(images: Tensor) -> Tensor:
        which = torch.randint(len(ghosts), (len(images),), generator=generator)
        return (0.75 * images + 0.35 * ghosts[which]).clamp(0, 1)

    return apply
