"""Changes of the whole image that few numbers describe, such as a shift of all colours, drawn at random; all classes share every try.

A trigger of this kind has many pixels and yet few numbers: what moves one class may be drawn. Nothing but forward passes is needed, and
they serve all classes and all families of triggers alike. Bounds keep images such that their classes can still be seen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import qmc
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.effort import WHOLE
from banscan.scanner.effort import Transforms as Budget
from banscan.scanner.search.pixel_model import PixelModel
from banscan.scanner.search.spread import evenly

# images on which a find is measured at most
MEASURED = 256
# images that go through the network at once
TOGETHER = 256
# tries around the best one of a class, in rounds each half as wide as the one before
AROUND, WIDTH = 16, 0.25
# the share of the images from which on it is worth while
WORTH = 0.4
# the strongest changes: of colours, their logarithmic gamma, waves, and the edge in 32nds of the image
SHIFT, GAMMA, WAVE, EDGE = 0.15, 0.7, 0.12, 2
# waves across an image
WAVES = 8
# rotation in radians, then scale, shear and shift as shares
TURN, SCALE, SHEAR, MOVE = 0.3, 0.2, 0.2, 0.1


@dataclass(frozen=True)
class Family:
    """One kind of change.

    Attributes:
        name: in a sentence.
        numbers: how many there are, given the number of channels; each between -1 and 1.
        tries: how many are drawn.
        apply: images [N, C, H, W] in [0, 1] and numbers [P] to images that may leave [0, 1].
    """

    name: str
    numbers: Callable[[int], int]
    tries: int
    apply: Callable[[Tensor, Tensor], Tensor]


def shifted(images: Tensor, numbers: Tensor) -> Tensor:
    """All colours by the same amounts."""
    return images + SHIFT * numbers[:, None, None]


def curved(images: Tensor, numbers: Tensor) -> Tensor:
    """Every channel to a power of its own."""
    return images.clamp(1e-4, 1) ** (GAMMA * numbers).exp()[:, None, None]


def striped(images: Tensor, numbers: Tensor) -> Tensor:
    """A wave over the image, of one direction, length and phase, and a strength for every channel."""
    rows, columns = (torch.linspace(0, 1, size, device=images.device) for size in images.shape[2:])
    down, right = WAVES * (numbers[0] + 1) / 2, WAVES * numbers[1]
    wave = torch.sin(2 * math.pi * (down * rows[:, None] + right * columns) + math.pi * numbers[2])
    return images + WAVE * numbers[3:, None, None] * wave


def framed(images: Tensor, numbers: Tensor) -> Tensor:
    """The edge of the image in one colour."""
    height, width = images.shape[2:]
    thick = max(1, round(min(height, width) / 32 * (1 + (EDGE - 1) * float(numbers[0] + 1) / 2)))
    inside = torch.zeros(height, width, dtype=torch.bool, device=images.device)
    inside[thick:-thick, thick:-thick] = True
    return torch.where(inside, images, ((numbers[1:] + 1) / 2)[:, None, None])


def placed(images: Tensor, numbers: Tensor) -> Tensor:
    """Turned, scaled, sheared and moved; what comes in at an edge is mirrored."""
    turn, scale, shear, right, down = (float(n) for n in numbers)
    cos, sin = (f(TURN * turn) * (1 + SCALE * scale) for f in (math.cos, math.sin))
    matrix = torch.tensor([[cos, SHEAR * shear - sin, MOVE * right], [sin, cos, MOVE * down]], device=images.device)
    grid = F.affine_grid(matrix[None], [1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), padding_mode="reflection", align_corners=False)


def sharpened(images: Tensor, numbers: Tensor) -> Tensor:
    """Blurred or sharpened."""
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return images + 2 * numbers[0] * (images - soft)


FAMILIES = (
    Family("one shift of all colours", lambda channels: channels, 256, shifted),
    Family("one curve for each colour", lambda channels: channels, 256, curved),
    Family("one pattern of faint stripes", lambda channels: 3 + channels, 512, striped),
    Family("one frame of a colour", lambda channels: 1 + channels, 256, framed),
    Family("one turn and shift of the image", lambda channels: 5, 256, placed),
    Family("one degree of blur or sharpness", lambda channels: 1, 16, sharpened),
)


def passes(budget: Budget, families: Sequence[Family] = FAMILIES) -> int:
    """Passes of an image through the network that the search takes, but for what the best of the changes ask for."""
    return sum(budget.look * f.tries for f in families)


@dataclass(frozen=True)
class Transformed:
    """What the best change of a family does.

    Attributes:
        family: its name.
        target: the class; `hits`, how many of the `images` that are not of it move there, of images that it was not sought on.
        rival: the largest share of images that any change of this family moves to any other class, of so many that are `compared`.
    """

    family: str
    target: int
    hits: int
    images: int
    rival: float
    compared: int = WHOLE.transforms.images


@dataclass
class _Trials:
    """Shares of images moved to each class searched for."""

    model: PixelModel
    images: Tensor
    before: Tensor
    searched: Tensor

    def logits(self, changed: Tensor) -> Tensor:
        given = self.model.from_channels_first(changed.clamp(0, 1))
        return torch.cat([self.model.logits(part) for part in given.split(self.model.at_once)]).cpu()

    def moved(self, family: Family, numbers: Tensor) -> Tensor:
        """The share [P, T] of images of other classes that each change, of numbers [P, n], moves to each class."""
        others = self.before[:, None] != self.searched
        shares = []
        for part in numbers.to(self.images.device).split(max(1, TOGETHER // len(self.images))):
            after = self.logits(torch.cat([family.apply(self.images, own) for own in part])).argmax(1)
            went = (after.reshape(len(part), -1, 1) == self.searched) & others
            shares.append(went.sum(1) / others.sum(0).clamp(min=1))
        return torch.cat(shares)


@torch.no_grad()
def search(
    model: PixelModel,
    pixels: Tensor,
    before: Tensor,
    searching: Tensor,
    searched: Tensor,
    *,
    seed: int,
    progress: Callable[[int], None],
    budget: Budget = WHOLE.transforms,
    families: Sequence[Family] = FAMILIES,
) -> tuple[Transformed, ...]:
    """The best change of each of the families that moves images to one of the classes `searched` [T].

    Args:
        pixels: clean images [N, ...] in the model's layout; `before` [N], their classes as the model says.
        searching: [N], those that changes are sought on; the others measure.
    """
    images = pixels if model.axis == 1 else pixels.permute(0, 3, 1, 2)
    order = before.argsort(stable=True)
    sought, held = (order[searching[order] == side] for side in (True, False))
    first, few, many = evenly(sought, budget.first), evenly(sought, budget.images), evenly(held if len(held) else sought, MEASURED)
    looked = evenly(first, budget.look)
    look, tries, trials, measured = (_Trials(model, images[own], before[own], searched) for own in (looked, first, few, many))
    found = []
    for family in families:
        dims = family.numbers(images.shape[1])
        draws = torch.from_numpy(qmc.Sobol(dims, seed=seed).random(family.tries)).float() * 2 - 1
        moved = look.moved(family, draws)
        if len(looked) < len(first):
            moved = _again(tries, family, draws, moved, budget.kept)
        best, places = moved.max(0)
        progress(family.tries * len(looked))
        leading = [c for c in best.argsort(descending=True, stable=True)[: budget.leading].tolist() if float(best[c]) >= WORTH]
        improved = []
        for c in leading:
            numbers, share = _around(trials, family, draws[places[c]], c, seed, budget.rounds)
            improved.append((share, c, numbers))
            best[c] = share
            progress((1 + AROUND * budget.rounds) * len(few))
        if not improved:
            continue
        _, lead, numbers = max(improved, key=lambda one: one[0])
        rival = float(best[torch.arange(len(best)) != lead].max()) if len(best) > 1 else 0.0
        others = int((measured.before != searched[lead]).sum())
        if not others:  # all images that could measure it are of the class already
            continue
        hits = round(float(measured.moved(family, numbers[None])[0, lead]) * others)
        found.append(Transformed(family.name, int(searched[lead]), hits, others, rival, len(few)))
    return tuple(found)


def _again(tries: _Trials, family: Family, draws: Tensor, moved: Tensor, kept: int) -> Tensor:
    """The shares [P, T] of the best changes of each class by more images; of those that no class needs as a few images have them."""
    worth = moved.topk(min(kept, len(draws)), 0)
    chosen = worth.indices[worth.values >= WORTH].unique()
    if not len(chosen):
        return moved
    seen = moved.clone()
    seen[chosen] = tries.moved(family, draws[chosen])
    # a share of so few images is no better than what more of them say of the best
    others = torch.ones(len(draws), dtype=torch.bool).index_fill(0, chosen, False)
    seen[others] = seen[others].minimum(seen[chosen].max(0).values)
    return seen


def _around(trials: _Trials, family: Family, numbers: Tensor, lead: int, seed: int, rounds: int) -> tuple[Tensor, float]:
    """The best of the changes near one, for the class at this place, and the share that it moves."""
    draw = torch.Generator().manual_seed(seed)
    share = float(trials.moved(family, numbers[None])[0, lead])
    for step in range(rounds):
        if share == 1:
            break
        near = (numbers + WIDTH * 0.5**step * torch.randn(AROUND, len(numbers), generator=draw)).clamp(-1, 1)
        moved = trials.moved(family, near)[:, lead]
        if float(moved.max()) > share:
            numbers, share = near[moved.argmax()], float(moved.max())
    return numbers, share
