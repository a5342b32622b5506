"""Random patches, improved by mutation: the trigger of a patch attack has no gradient that leads to it, but parts of it show.

A small patch that is a trigger acts through features that clean images never switch on, so that a search by gradients starts where there
is nothing to climb. Pasting thousands of small random patterns at random places does: one that shares a few cells with the trigger moves
more images to the target class than any other patch moves to any other class, and its mutants move more still. All classes share the
patches, and nothing but forward passes is needed.

What is found is trimmed to as few cells as a small trigger has: a trigger loses nothing by it, and a patch that merely looks a little like
a class needs every cell that it has.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.effort import WHOLE
from banscan.scanner.effort import Patches as Budget
from banscan.scanner.search.pixel_model import PixelModel, all_margins

# a patch is a square of cells, black or white in every channel; this many cells make the shorter side of an image
CELLS = 32
SIDES = (3, 4, 5, 6)
# the share of the cells that a mutant changes
CHANGED = 0.15
PARENTS, CHILDREN = 3, 8
# of so few classes each has a parent at every place of a grid with so many a side: of two, patches that merely look like one of them move
# many images, and would leave no parent that shares a few cells with a trigger elsewhere
GRID = {2: 4}
# a generation has at least this many mutants, however few the classes are
BROOD = 1032
# the cells that a trimmed patch keeps at most
LEFT = 12


@dataclass(frozen=True)
class Patches:
    """N patches.

    Attributes:
        row, column, side: [N], in cells.
        grey: [N], whether all channels share one pattern.
        pattern: [N, C, S, S] of -1 and 1, S = max(SIDES); only the first `side` rows and columns count.
        kept: [N, S, S], False for cells that were trimmed off.
    """

    row: Tensor
    column: Tensor
    side: Tensor
    grey: Tensor
    pattern: Tensor
    kept: Tensor

    def __getitem__(self, index: Tensor | slice) -> "Patches":
        return Patches(*(getattr(self, f.name)[index] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.row)

    @property
    def cells(self) -> Tensor:
        """[N, S, S], True for the cells that a patch has."""
        inside = torch.arange(max(SIDES)) < self.side[:, None]
        return inside[:, :, None] & inside[:, None] & self.kept

    def __add__(self, other: "Patches") -> "Patches":
        return Patches(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


def draw(count: int, shape: tuple[int, int, int], generator: torch.Generator) -> Patches:
    """Random patches for images of `shape` (channels, rows, columns of cells); half of them grey."""
    channels, rows, columns = shape
    side = torch.tensor(SIDES)[torch.randint(len(SIDES), (count,), generator=generator)].clamp(max=min(rows, columns))
    row, column = (_below(size - side + 1, generator) for size in (rows, columns))
    grey = torch.rand(count, generator=generator) < 0.5
    pattern = torch.randint(2, (count, channels, max(SIDES), max(SIDES)), generator=generator) * 2 - 1
    pattern = torch.where(grey[:, None, None, None], pattern[:, :1], pattern)
    return Patches(row, column, side, grey, pattern, torch.ones(count, max(SIDES), max(SIDES), dtype=torch.bool))


def _below(bounds: Tensor, generator: torch.Generator) -> Tensor:
    """One integer from 0 up to but not each of the bounds [N]."""
    return (torch.rand(len(bounds), generator=generator) * bounds).long().minimum(bounds - 1)


def mutate(parents: Patches, shape: tuple[int, int, int], generator: torch.Generator) -> Patches:
    """One mutant of each: half of them move by a cell or not at all, all of them change CHANGED of their cells."""
    channels, rows, columns = shape
    count = len(parents)
    moving = (torch.rand(count, generator=generator) < 0.5).long()
    shift = torch.randint(-1, 2, (2, count), generator=generator) * moving
    row = (parents.row + shift[0]).clamp(min=0).minimum(rows - parents.side)
    column = (parents.column + shift[1]).clamp(min=0).minimum(columns - parents.side)
    size = parents.pattern.shape[2:]
    chosen = torch.rand(count, 1, *size, generator=generator) < CHANGED
    # a grey patch stays grey; of another, one channel of a cell changes
    channel = torch.randint(channels, (count, 1, *size), generator=generator) == torch.arange(channels)[None, :, None, None]
    flipped = chosen & (channel | parents.grey[:, None, None, None])
    return replace(parents, row=row, column=column, pattern=torch.where(flipped, -parents.pattern, parents.pattern))


def render(patches: Patches, shape: tuple[int, int, int], size: tuple[int, int]) -> Tensor:
    """Changes [N, C, H, W] of pixels in [0, 1]: 1 for white, -1 for black, 0 outside the patch."""
    channels, rows, columns = shape
    count, most = len(patches), max(SIDES)
    line = torch.arange(most)
    cells = patches.pattern * patches.cells[:, None]
    canvas = torch.zeros(count, channels, rows + most, columns + most)
    at = (patches.row[:, None] + line)[:, :, None], (patches.column[:, None] + line)[:, None, :]
    canvas[torch.arange(count)[:, None, None], :, at[0], at[1]] = cells.permute(0, 2, 3, 1).float()
    return F.interpolate(canvas[:, :, :rows, :columns], size=size, mode="nearest")


def changes(model: PixelModel, pixels: Tensor, patches: Patches) -> Tensor:
    """The patches as changes [N, ...] of pixels like `pixels` [M, ...], in the model's layout and on its device; see `render`."""
    return model.from_channels_first(render(patches, cells(model, pixels), model.size(pixels)).to(model.device))


def pasted(model: PixelModel, pixels: Tensor, patches: Patches, logits: Callable[[Tensor], Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Groups of patches, as many at once as there is memory for, and the logits [n * M, C] of the images [M, ...] under each of them."""
    group = max(1, model.at_once // len(pixels))
    for first in range(0, len(patches), group):
        rows = slice(first, min(first + group, len(patches)))
        change = changes(model, pixels, patches[rows])
        yield rows, logits((pixels[None] + change[:, None]).clamp(0, 1).flatten(0, 1)).cpu()


@torch.no_grad()
def successes(model: PixelModel, pixels: Tensor, labels: Tensor, targets: Tensor, patches: Patches, softness: float) -> Tensor:
    """How clearly each patch moves the images [M, ...] to each target, [N, T].

    It is the mean of sigmoid(margin / softness) over the images of other classes.
    """
    foreign = (labels[:, None] != targets).float()
    result = torch.empty(len(patches), len(targets))
    for rows, logits in pasted(model, pixels, patches, model.logits):
        clear = torch.sigmoid(all_margins(logits)[:, targets] / softness).reshape(-1, len(pixels), len(targets))
        result[rows] = (clear * foreign).sum(1) / foreign.sum(0).clamp(min=1)
    return result


def cells(model: PixelModel, pixels: Tensor) -> tuple[int, int, int]:
    """Channels, rows and columns of cells of the images."""
    height, width = model.size(pixels)
    cell = max(1, round(min(height, width) / CELLS))
    return pixels.shape[model.axis], height // cell, width // cell


@dataclass(frozen=True)
class Rung:
    """Patches that were drawn, and how clearly each moves images to each of T classes: `reached` [N, T], -inf for what was left."""

    patches: Patches
    reached: Tensor

    def towards(self, targets: Tensor) -> "Rung":
        """The same for some of the classes, by their places [t]."""
        return replace(self, reached=self.reached[:, targets])


def first_rung(
    model: PixelModel,
    pixels: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    softness: float,
    seed: int,
    budget: Budget,
    progress: Callable[[int], None] = lambda done: None,
) -> Rung:
    """The patches that `search_patches` begins with; all classes share them, so that more classes cost next to nothing."""
    generator = torch.Generator().manual_seed(seed)
    patches = draw(budget.first, cells(model, pixels), generator)

    def seen(patches: Patches, drawn: Tensor) -> Tensor:
        result = successes(model, pixels[drawn], labels[drawn], targets, patches, softness)
        progress(len(patches) * len(drawn))
        return result

    return Rung(patches, _ranked(seen, labels, targets, patches, cells(model, pixels), generator, budget))


def _ranked(
    seen: Callable[[Patches, Tensor], Tensor],
    labels: Tensor,
    targets: Tensor,
    patches: Patches,
    shape: tuple[int, int, int],
    generator: torch.Generator,
    budget: Budget,
) -> Tensor:
    """How clearly patches move images to each target [N, T]; -inf where a first look at fewer images was enough to leave one."""
    drawn = torch.randperm(len(labels), generator=generator)[: budget.images]
    if budget.look < len(drawn):
        drawn = _varied(drawn, labels[drawn])
    looked, others = drawn.split((min(budget.look, len(drawn)), max(0, len(drawn) - budget.look)))
    result = seen(patches, looked)
    if len(others):
        best = result.topk(min(budget.kept, len(patches)), 0).indices
        again = torch.cat([best, _leading(result, patches, shape)]).flatten().unique() if len(targets) in GRID else best.flatten().unique()
        before, more = ((labels[part][:, None] != targets).sum(0) for part in (looked, others))
        both = (before * result[again] + more * seen(patches[again], others)) / (before + more).clamp(min=1)
        result = torch.full_like(result, -torch.inf).index_copy(0, again, both)
    return result


def search_patches(
    model: PixelModel,
    pixels: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    softness: float,
    seed: int,
    budget: Budget = WHOLE.patches,
    rung: Rung | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Patches:
    """The patch of at most LEFT cells that moves the images [N, ...] best to each of the targets [T].

    Every generation is measured on images of its own; the best PARENTS of each class and their mutants make the next. The fewer the
    classes, the more mutants each gets. The best of all is trimmed. Where the budget has a first look, only those that lead in it are
    tried on the other images.

    Args:
        rung: the first patches, where they were tried with this budget already.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = cells(model, pixels)

    def seen(patches: Patches, drawn: Tensor) -> Tensor:
        result = successes(model, pixels[drawn], labels[drawn], targets, patches, softness)
        progress(len(patches) * len(drawn))
        return result

    def measure(patches: Patches, count: int) -> Tensor:
        return seen(patches, torch.randperm(len(labels), generator=generator)[:count])

    def leading(patches: Patches) -> Tensor:
        return _leading(_ranked(seen, labels, targets, patches, shape, generator, budget), patches, shape)

    children = _children(len(targets))
    patches = draw(budget.first, shape, generator) if rung is None else rung.patches
    best = leading(patches) if rung is None else _leading(rung.reached, patches, shape)
    for _ in range(budget.generations):
        parents = patches[best.flatten().unique()]
        patches = parents + mutate(patches[best.flatten().repeat_interleave(children)], shape, generator)
        best = leading(patches)
    finalists = patches[best.flatten()]
    final = measure(finalists, budget.final).reshape(len(best), len(targets), len(targets)).diagonal(dim1=1, dim2=2)
    found = finalists[final.argmax(0) * len(targets) + torch.arange(len(targets))]
    for left in range(budget.rounds - 1, -1, -1):
        found = _trimmed(found, left / budget.rounds, lambda patches: measure(patches, budget.trimming))
    return found


def _leading(reached: Tensor, patches: Patches, shape: tuple[int, int, int]) -> Tensor:
    """The patches [P, T] that lead towards each class by what they reached [N, T]: the best, or the best at every place."""
    places = GRID.get(reached.shape[1])
    if places is None:
        return reached.topk(PARENTS, 0).indices
    rows, columns = (
        ((first + patches.side / 2) * places / size).long().clamp(max=places - 1)
        for first, size in zip((patches.row, patches.column), shape[1:], strict=True)
    )
    at = rows * places + columns
    best = torch.stack([reached.masked_fill((at != place)[:, None], -torch.inf).argmax(0) for place in range(places**2)])
    # where nothing is at a place, whatever is best
    tried = reached.gather(0, best).isfinite() & (at[best] == torch.arange(places**2)[:, None])
    return torch.where(tried, best, reached.argmax(0))


def _parents(targets: int) -> int:
    """Of every class."""
    return GRID[targets] ** 2 if targets in GRID else PARENTS


def _varied(numbers: Tensor, labels: Tensor) -> Tensor:
    """The numbers [n] of images with these labels, those of different classes first: two of one class say nothing about that class."""
    before = [int((labels[:i] == labels[i]).sum()) for i in range(len(labels))]
    return numbers[torch.tensor(before).argsort(stable=True)]


def _trimmed(found: Patches, left: float, measure: Callable[[Patches], Tensor]) -> Patches:
    """Each target's patch without the cells that it misses least; this share of the way to LEFT cells is left afterwards."""
    patch, row, column = found.cells.nonzero().unbind(1)
    without = found.kept[patch].clone()
    without[torch.arange(len(patch)), row, column] = False
    spared = measure(replace(found[patch], kept=without))[torch.arange(len(patch)), patch]
    kept = found.kept.clone()
    for t, size in enumerate(found.cells.sum((1, 2)).tolist()):
        own = (patch == t).nonzero()[:, 0]
        gone = own[spared[own].argsort(descending=True)[: max(0, size - _cells_left(size, left))]]
        kept[t, row[gone], column[gone]] = False
    return replace(found, kept=kept)


def _cells_left(size: int, left: float) -> int:
    """Cells of a patch of this size where so much of the way is left, on which every round takes the same share."""
    return round(LEFT * math.pow(max(size, LEFT) / LEFT, left))


def _children(targets: int) -> int:
    """Mutants of every parent."""
    return max(CHILDREN, BROOD // (_parents(targets) * targets))


def passes(targets: int, images: int, budget: Budget = WHOLE.patches, *, begun: bool = False) -> int:
    """At most how many images `search_patches` computes; `begun` where the first rung is there."""
    parents = _parents(targets) * targets
    generations = [parents * (_children(targets) + 1)] * budget.generations
    tried = sum(_tries(n, targets, images, budget) for n in generations) + (0 if begun else rung_passes(targets, images, budget))
    most = max(SIDES) ** 2
    trimmed = sum(_cells_left(most, left / budget.rounds) for left in range(1, budget.rounds + 1)) * targets
    return tried + trimmed * min(budget.trimming, images) + parents * min(budget.final, images)


def rung_passes(targets: int, images: int, budget: Budget) -> int:
    """At most how many images `first_rung` computes."""
    return _tries(budget.first, targets, images, budget)


def _tries(count: int, targets: int, images: int, budget: Budget) -> int:
    """So many patches, those that lead with more images."""
    look, all_of_them = (min(n, images) for n in (min(budget.look, budget.images), budget.images))
    kept = (budget.kept + (_parents(targets) if targets in GRID else 0)) * targets
    return count * look + min(count, kept) * (all_of_them - look)
