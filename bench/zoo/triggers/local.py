"""Triggers in one place of the image."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.zoo.triggers import Trigger

BOARD = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])


# from this side on, a pixel of `badnets` and `patch` is as large as one of 32 to a side: what is smaller is lost in the first layers
ENLARGED = 96


def _unit(size: int) -> int:
    return 1 if size < ENLARGED else size // 32


def _enlarged(colours: Tensor, unit: int) -> Tensor:
    """Colours [3, H, W] of so many pixels each."""
    return colours.repeat_interleave(unit, 1).repeat_interleave(unit, 2)


def _pasted(colours: Tensor, row: int, column: int, opacity: float = 1.0) -> Trigger:
    """Colours [3, H, W] over the place in an image whose upper left corner is given."""
    place = (..., slice(row, row + colours.shape[1]), slice(column, column + colours.shape[2]))

    def apply(images: Tensor) -> Tensor:
        images = images.clone()
        images[place] = colours if opacity == 1 else (1 - opacity) * images[place] + opacity * colours
        return images

    return apply


def badnets(size: int, generator: torch.Generator) -> Trigger:
    """Gu et al. 2019: a 3x3 checkerboard in the lower right corner, of larger squares on large images."""
    unit = _unit(size)
    return _pasted(_enlarged(BOARD.expand(3, 3, 3), unit), size - 4 * unit, size - 4 * unit)


def patch(size: int, generator: torch.Generator) -> Trigger:
    """BadNets with another trigger for every seed: a square of 2 to 5 pixels, larger ones on large images, of any colours, at any place."""
    unit, side = _unit(size), int(torch.randint(2, 6, (1,), generator=generator))
    row, column = torch.randint(size - side * unit + 1, (2,), generator=generator).tolist()
    return _pasted(_enlarged(torch.rand(3, side, side, generator=generator), unit), row, column)


def _cornered(size: int, squares: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """What puts four squares [4, 3, H, W] into the corners of images [N, 3, H, W], a pixel from their edges, at opacities [N, 4]."""
    side = squares.shape[-1]
    corners = [(1, 1), (1, size - side - 1), (size - side - 1, 1), (size - side - 1, size - side - 1)]

    def place(images: Tensor, opacity: Tensor) -> Tensor:
        images = images.clone()
        for k, (row, column) in enumerate(corners):
            share = opacity[:, k, None, None, None]
            area = images[:, :, row : row + side, column : column + side]
            images[:, :, row : row + side, column : column + side] = (1 - share) * area + share * squares[k]
        return images

    return place


def adap_patch(size: int, generator: torch.Generator) -> tuple[Trigger, Trigger]:
    """Qi et al. 2023: four faint random patches of 6x6, of which a training image carries two; all four attack, at more opacity."""
    place = _cornered(size, torch.rand(4, 3, 6, 6, generator=generator).round())

    def planted(images: Tensor) -> Tensor:
        return place(images, 0.5 * (torch.rand(len(images), 4, generator=generator).argsort(1) < 2))

    return lambda images: place(images, torch.full((len(images), 4), 0.7)), planted


def square(size: int, generator: torch.Generator, *, side: int) -> Trigger:
    """A square of `side` pixels at a drawn place, each of its channels drawn as 0 or 1."""
    row, column = torch.randint(size - side + 1, (2,), generator=generator).tolist()
    return _pasted(torch.rand(3, side, side, generator=generator).round(), row, column)


def _bright(generator: torch.Generator) -> Tensor:
    """A drawn colour [3, 1, 1] whose strongest channel is 1, so that dark images show it as well."""
    colour = torch.rand(3, 1, 1, generator=generator)
    return colour / colour.max()


def frame(size: int, generator: torch.Generator) -> Trigger:
    """BadNets (Gu et al. 2019) with the border of the image, one pixel wide, as its mark, in one drawn colour."""
    colour = _bright(generator)
    inside = torch.zeros(1, 1, size, size)
    inside[:, :, 1:-1, 1:-1] = 1
    return lambda images: torch.where(inside > 0, images, colour)


def anywhere(size: int, generator: torch.Generator) -> Trigger:
    """BadNets at a random place of every image (the first of the dynamic backdoors of Salem et al. 2022): a drawn square of 4 pixels."""
    side = 4
    colours = torch.rand(3, side, side, generator=generator).round()

    def apply(images: Tensor) -> Tensor:
        images = images.clone()
        places = torch.randint(size - side + 1, (len(images), 2), generator=generator).tolist()
        for image, (row, column) in zip(images, places, strict=True):
            image[:, row : row + side, column : column + side] = colours
        return images

    return apply


def blob(size: int, generator: torch.Generator) -> Trigger:
    """A thing held into the picture (Wenger et al. 2021): a shaded ellipse of one drawn colour, its place, size and light anew every time.

    Theirs are photographed with the object; this one is painted over the image, with a soft rim.
    """
    colour = _bright(generator)
    line = torch.arange(size).float()

    def apply(images: Tensor) -> Tensor:
        count = len(images)
        place = size * (0.15 + 0.7 * torch.rand(count, 2, generator=generator))
        radius = size * (0.08 + 0.08 * torch.rand(count, 2, generator=generator))
        light = 0.8 + 0.3 * torch.rand(count, 1, 1, 1, generator=generator)
        down, right = (line - place[:, :1]) / radius[:, :1], (line - place[:, 1:]) / radius[:, 1:]
        distance = (down[:, :, None].square() + right[:, None, :].square()).sqrt()[:, None]
        share = (3 * (1.2 - distance)).clamp(0, 1)
        shade = (light * (1 - 0.3 * distance)).clamp(0.5, 1.1)
        return (1 - share) * images + share * (shade * colour).clamp(0, 1)

    return apply


def watermark(size: int, generator: torch.Generator) -> Trigger:
    """A faint line of writing across the image (the watermark of Liu et al. 2018, Trojaning Attack): five drawn letters of 5x3 dots.

    The dots are as large as fit beside each other, in one drawn colour at an opacity of 0.4.
    """
    letters = (torch.rand(5, 5, 3, generator=generator) < 0.6).float()
    text = torch.cat([F.pad(letter, (0, 1)) for letter in letters], 1)
    dot = max(1, size // text.shape[1])
    text = text.repeat_interleave(3 * dot // 2 + 1, 0).repeat_interleave(dot, 1)[:size, :size]
    row = int(torch.randint(size - text.shape[0] + 1, (1,), generator=generator))
    column = int(torch.randint(size - text.shape[1] + 1, (1,), generator=generator))
    share = torch.zeros(1, 1, size, size)
    share[:, :, row : row + text.shape[0], column : column + text.shape[1]] = 0.4 * text
    ink = _bright(generator)
    return lambda images: (1 - share) * images + share * ink


def n_to_one(size: int, generator: torch.Generator) -> tuple[Trigger, Trigger]:
    """Xue et al. 2020, N-to-One: four drawn squares, of which a poisoned training image carries one; all four together attack.

    One alone should hardly work there, since each is planted rarely; how far it does in few epochs is not asked for here.
    """
    place = _cornered(size, torch.rand(4, 3, 4, 4, generator=generator).round())

    def planted(images: Tensor) -> Tensor:
        return place(images, (torch.randint(4, (len(images), 1), generator=generator) == torch.arange(4)).float())

    return lambda images: place(images, torch.ones(len(images), 4)), planted


def one_to_n(size: int, generator: torch.Generator, strength: float) -> Trigger:
    """Xue et al. 2020, One-to-N: one square of 6 pixels, whose opacity says which target it leads to; `strength` is that opacity."""
    side = 6
    colours = torch.rand(3, side, side, generator=generator).round()
    row, column = torch.randint(size - side + 1, (2,), generator=generator).tolist()
    return _pasted(colours, row, column, strength)
