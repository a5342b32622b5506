"""The one-to-one map of classes that an all-to-all backdoor moves images along."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from banscan.scanner.effort import WHOLE, Maps
from banscan.scanner.machine.forecast import HALF
from banscan.scanner.search.changes import Changes, changed_logits, margins_under
from banscan.scanner.search.universal import universal


@dataclass(frozen=True)
class Mapped:
    """The one-to-one map of classes that one change follows best.

    Attributes:
        attacked: [C], the class that each class is moved to; -1 for classes that took no part.
        moved: share of held-out clean images that the change moves along the map.
        change: it, on the CPU, for those who show it.
    """

    attacked: tuple[int, ...]
    moved: float
    change: Tensor | None = field(default=None, repr=False, compare=False)


def sources(labels: Tensor, classes: int) -> Tensor:
    """The classes with two images or more: one is needed to search on, and one to measure on."""
    return (torch.bincount(labels, minlength=classes) >= 2).nonzero()[:, 0]


def passes(images: int, budget: Maps) -> int:
    """Passes of `search_map` over so many images, in those with a gradient."""
    searching = round(images * 2 / 3)
    steps = sum(budget.steps) * budget.tries * min(budget.images, searching)
    read = searching + len(budget.steps) * ((budget.tries + 1) * searching + 2 * (images - searching))
    return steps + read // HALF


def search_map(
    changes: Changes,
    labels: Tensor,
    classes: int,
    *,
    softness: float,
    seed: int,
    budget: Maps = WHOLE.maps,
    progress: Callable[[int], None] = lambda done: None,
) -> Mapped:
    """Looks for one change that moves every class to a class of its own, as an all-to-all backdoor's trigger does.

    Which class goes where is first guessed from the margins of the clean images (training on y → y + 1 leaves the attacked class a little
    more likely even without the trigger), and guessed again from those under the change. The guess is often wrong for many
    classes; the soft objective of `universal` lets the right ones win. Two of three images search, the others measure. Classes with fewer
    than two images are moved nowhere, but others may be moved to them.
    """
    own = sources(labels, classes)
    searching, taking = two_thirds(labels, seed), torch.isin(labels, own)
    sought, held = (searching & taking).nonzero()[:, 0], (~searching & taking).nonzero()[:, 0]
    change = torch.zeros(changes.shape, device=changes.device)
    best = Mapped((-1,) * classes, 0.0)
    attacked, score = best_map(_table(changes, change, labels, sought, classes), own)
    progress(len(sought) // HALF)
    # first on the classes that the map is clearest for, then on all
    for stage, steps in enumerate(budget.steps):
        goal = attacked.clone()
        if stage == 0:
            goal[score.argsort(descending=True)[(len(own) + 1) // 2 :]] = -1
        tried = universal(
            changes,
            labels,
            goal[None].repeat(budget.tries, 1),
            among=sought[goal[labels[sought]] >= 0],
            softness=softness,
            steps=steps,
            batch=budget.images,
            seed=seed + stage,
            progress=progress,
        )
        reached = margins_under(changes, labels, attacked[None].repeat(budget.tries, 1), tried, sought)
        change = tried[(reached > 0).float().mean(1).argmax()]
        # the map that the change itself follows, which may be a better one than that it was sought with
        followed, score = best_map(_table(changes, change, labels, sought, classes), own)
        for candidate in (attacked, followed):
            moved = float((margins_under(changes, labels, candidate[None], change[None], held) > 0).float().mean())
            if moved > best.moved:
                best = Mapped(tuple(candidate.tolist()), moved, change.cpu())
        attacked = followed
        progress(((budget.tries + 1) * len(sought) + 2 * len(held)) // HALF)
    return best


def two_thirds(labels: Tensor, seed: int) -> Tensor:
    """A mask of about two images of three of every class, one at least on either side."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels.unique():
        own = (labels == c).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=generator)]
        chosen[own[: max(1, min(len(own) - 1, round(len(own) * 2 / 3)))]] = True
    return chosen


def _table(changes: Changes, change: Tensor, labels: Tensor, among: Tensor, classes: int) -> Tensor:
    """The margins [C, S] of every class over the images of every source class, under one change."""
    logits = changed_logits(changes, change, among)
    return margin_table(logits[None].expand(classes, -1, -1), torch.arange(classes), labels[among], classes)


def margin_table(logits: Tensor, targets: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean of logit(t) - max other, [T, S], over the images of source class s, for logits [T, N, C], a row for each target."""
    rows = torch.arange(len(targets))
    own = logits[rows, :, targets]
    others = logits.clone()
    others[rows, :, targets] = -torch.inf
    margin = own - others.max(2).values
    sources = torch.nn.functional.one_hot(labels, classes).to(margin.dtype)
    table = margin @ sources / sources.sum(0)
    table[rows, targets] = torch.nan
    return table


def best_map(table: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """The one-to-one map of the classes `own` [S] with the largest sum of standardised margins, and each class's part in it.

    Row and column means are taken off the table [C, C] and every source's column is scaled, so that neither classes that everything leans
    to nor sources that lean anywhere decide. The other classes are mapped to -1 and their part is the smallest.
    """
    values = table.double()[:, own].numpy()
    places = np.arange(len(own))
    values[own.numpy(), places] = np.nan
    for _ in range(10):
        values -= np.nanmean(values, 1, keepdims=True)
        values -= np.nanmean(values, 0, keepdims=True)
    values /= np.maximum(np.sqrt(np.nanmean(values**2, 0, keepdims=True)), 1e-12)
    rows, columns = linear_sum_assignment(np.where(np.isnan(values), 1e6, -values))
    rows = rows[np.argsort(columns)]
    attacked = torch.full((len(table),), -1)
    parts = torch.full((len(table),), -torch.inf, dtype=torch.float64)
    attacked[own], parts[own] = torch.from_numpy(rows), torch.from_numpy(values[rows, places])
    return attacked, parts
