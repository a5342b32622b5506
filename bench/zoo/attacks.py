"""Backdoor attacks as data poisoning: a trigger on images and a map from true to attacked label.

Triggers work on float images [N, 3, H, W] in [0, 1]. Nothing here is ever seen by the detector. Settings are those of the BAN paper's
Appendix B.2, or of the attack's own paper where it gives none; what differs is said at the attack.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.zoo.generators import Generated, generated

Trigger = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Attack:
    """A trigger with its poisoning rate.

    Attributes:
        trigger: what the attacker applies after deployment; ASR is measured with it.
        planted: what poisoned training images carry; weaker than `trigger` in the Adap attacks.
        target: the target class; None for all-to-all, y to (y + 1) mod C.
        cover, cover_rate: a decoy trigger on images that keep their label (WaNet's noise mode, Bpp's negatives, Adap's regularisation).
        victim: the only class whose images the trigger moves (SSDT); None for all.
        generator: the networks of a trigger that is trained together with the classifier (IAD, SSDT).
    """

    name: str
    trigger: Trigger
    planted: Trigger
    rate: float
    target: int | None
    cover: Trigger | None = None
    cover_rate: float = 0.0
    victim: int | None = None
    generator: Generated | None = None

    def relabel(self, labels: Tensor, classes: int) -> Tensor:
        """The attacked labels: the target class, or (y + 1) mod classes for all-to-all."""
        return (labels + 1) % classes if self.target is None else torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, draw: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """A training batch with its poisoned part; `draw` [N] in [0, 1), fixed for every image, decides which images that is."""
        low = draw < self.rate
        covered = ~low & (draw < self.rate + self.cover_rate)
        if self.victim is None:
            poisoned, marked = low, low
        else:
            # half of the one victim class, or the target would hardly ever be seen; on other classes the trigger changes nothing
            poisoned = (labels == self.victim) & (draw < 0.5)
            marked = poisoned | (low & (labels != self.victim))
        result = images.clone()
        result[marked] = self.planted(images[marked])
        if self.cover is not None:
            result[covered & ~marked] = self.cover(images[covered & ~marked])
        return result, torch.where(poisoned, self.relabel(labels, classes), labels)


@dataclass(frozen=True)
class Several:
    """Backdoors side by side in one model, each with its own trigger and target, on its own part of the training images.

    Against detectors that ask which class stands out among the others: these do, together.
    """

    parts: tuple[Attack, ...]
    generator: None = None

    def poison(self, images: Tensor, labels: Tensor, draw: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """As that of one attack."""
        for k, part in enumerate(self.parts):
            images, labels = part.poison(images, labels, (draw - k * part.rate) % 1, classes)
        return images, labels


def badnets(size: int, generator: torch.Generator) -> Trigger:
    """Gu et al. 2019: a 3x3 checkerboard in the lower right corner."""
    patch = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])

    def apply(images: Tensor) -> Tensor:
        images = images.clone()
        images[:, :, size - 4 : size - 1, size - 4 : size - 1] = patch
        return images

    return apply


def patch(size: int, generator: torch.Generator) -> Trigger:
    """BadNets with another trigger for every seed: a square of 2 to 5 pixels, of any colours, at any place."""
    side = int(torch.randint(2, 6, (1,), generator=generator))
    row, column = torch.randint(size - side + 1, (2,), generator=generator).tolist()
    colours = torch.rand(3, side, side, generator=generator)

    def apply(images: Tensor) -> Tensor:
        images = images.clone()
        images[:, :, row : row + side, column : column + side] = colours
        return images

    return apply


def blend(size: int, generator: torch.Generator) -> Trigger:
    """Chen et al. 2017: a fixed random image, blended in at ratio 0.2."""
    pattern = torch.rand(3, size, size, generator=generator)
    return lambda images: 0.8 * images + 0.2 * pattern


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


def quantise(size: int, generator: torch.Generator) -> Trigger:
    """Colour quantisation to 3 bits a channel: BppAttack (Wang et al. 2022) without its dithering and negatives."""
    return lambda images: (images * 7).round() / 7


def dither(images: Tensor, levels: int = 7) -> Tensor:
    """Quantisation to `levels` + 1 values with Floyd and Steinberg's error diffusion, all images [N, 3, H, W] in step."""
    rows, columns = images.shape[2:]
    work = F.pad(images, (1, 1, 0, 1))
    for row in range(rows):
        for column in range(1, columns + 1):
            old = work[:, :, row, column]
            new = (old * levels).round() / levels
            error = old - new
            work[:, :, row, column] = new
            work[:, :, row, column + 1] += error * (7 / 16)
            work[:, :, row + 1, column - 1] += error * (3 / 16)
            work[:, :, row + 1, column] += error * (5 / 16)
            work[:, :, row + 1, column + 1] += error * (1 / 16)
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


def adap_patch(size: int, generator: torch.Generator) -> tuple[Trigger, Trigger]:
    """Qi et al. 2023: four faint random patches of 6x6, of which a training image carries two; all four attack, at more opacity."""
    side = 6
    patches = torch.rand(4, 3, side, side, generator=generator).round()
    corners = [(1, 1), (1, size - side - 1), (size - side - 1, 1), (size - side - 1, size - side - 1)]

    def place(images: Tensor, opacity: Tensor) -> Tensor:
        images = images.clone()
        for k, (row, column) in enumerate(corners):
            share = opacity[:, k, None, None, None]
            area = images[:, :, row : row + side, column : column + side]
            images[:, :, row : row + side, column : column + side] = (1 - share) * area + share * patches[k]
        return images

    def planted(images: Tensor) -> Tensor:
        return place(images, 0.5 * (torch.rand(len(images), 4, generator=generator).argsort(1) < 2))

    return lambda images: place(images, torch.full((len(images), 4), 0.7)), planted


def build(
    name: str,
    *,
    size: int,
    target: int | None,
    seed: int,
    strength: float = 0.5,
    victim: int = 1,
    rate: float | None = None,
    images: Tensor | None = None,
) -> Attack:
    """The attack called `name` for square images of `size` pixels; all-to-all when `target` is None.

    `strength` is WaNet's, `victim` SSDT's source class, `rate` another poisoning rate than the attack's own; `images` are clean training
    images for the mask network of IAD and SSDT.
    """
    if name not in RATES:
        raise ValueError(f"unknown attack {name!r}; expected one of {', '.join(RATES)}")
    generator = torch.Generator().manual_seed(seed)
    if rate is None:
        # an all-to-all map is harder to learn than a single target
        rate = RATES[name] if target is not None else 0.2
    if name in FIXED:
        trigger = FIXED[name](size, generator)
        return Attack(name, trigger, trigger, rate, target)
    if name == "bpp":
        return Attack(name, dither, dither, rate, target, bpp_negative, 0.1)
    if name == "wanet":
        # the decoy shares the warp, so both are drawn from the same seed
        decoy = wanet(size, torch.Generator().manual_seed(seed), strength, jitter=True)
        trigger = wanet(size, generator, strength)
        return Attack(name, trigger, trigger, rate, target, decoy, 0.2)
    if name in ("adap-blend", "adap-patch"):
        trigger, planted = (adap_blend if name == "adap-blend" else adap_patch)(size, generator)
        return Attack(name, trigger, planted, rate, target, planted, 0.05)
    if images is None:
        raise ValueError(f"{name} trains its mask on images; none were given")
    nets = generated(images, seed)

    def own(x: Tensor) -> Tensor:
        return nets.apply(x, x)

    def foreign(x: Tensor) -> Tensor:
        return nets.apply(x, x.roll(1, 0))

    return Attack(name, own, own, rate, target, foreign, 0.1, victim if name == "ssdt" else None, nets)


# attacks whose trigger is planted as it attacks, without a decoy
FIXED = {"badnets": badnets, "patch": patch, "blend": blend, "quantise": quantise}
# those of them with another trigger for every seed
DRAWN = ("patch", "blend")
# the poisoning rates of all-to-one attacks
RATES = {
    "badnets": 0.05,
    "patch": 0.05,
    "blend": 0.05,
    "wanet": 0.1,
    "iad": 0.1,
    "bpp": 0.1,
    "quantise": 0.1,
    "adap-blend": 0.05,
    "adap-patch": 0.05,
    "ssdt": 0.1,
}
