"""What both searches along a map of classes have in common: which classes take part, and what counts."""

from dataclasses import replace

import torch

from banscan.scanner.criteria.base import MIN_CLASSES, Context, Criterion, NotDone, too_few
from banscan.scanner.criteria.share import score, share_of
from banscan.scanner.extent import Extent
from banscan.scanner.findings import Finding
from banscan.scanner.machine.forecast import Work, counter
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search.changes import Changes
from banscan.scanner.search.class_map import Mapped, passes, search_map, sources
from banscan.scanner.subject import Subject

# share of the images that one change moves along a one-to-one map of the classes: so many have no innocent reason
LIMIT = 0.6
# fewer of the classes than this share are moved along a map more easily, in clean models too (docs/evidence/maps.md)
MOST_OF_THEM = 0.9
# classes that are listed by number
LISTED = 10


def missing(subject: Subject) -> NotDone | None:
    """Why no map can be looked for; None where one can."""
    if too_few(subject):
        return too_few(subject)
    if subject.settings.targets < subject.classes:
        return NotDone(f"only {subject.settings.targets} of the {subject.classes} classes are searched for as targets (--targets)")
    taking = len(sources(subject.labels, subject.classes))
    if taking < max(MIN_CLASSES, MOST_OF_THEM * subject.classes):
        return NotDone(f"{without(subject)}; give two images or more of at least nine tenths of the classes")
    return None


def without(subject: Subject) -> str:
    """The classes that take no part, and why."""
    counts = torch.bincount(subject.labels, minlength=subject.classes)
    none, single = ((counts == n).nonzero()[:, 0].tolist() for n in (0, 1))
    parts = [f"{listed(none)} no image"] if none else []
    parts += [f"{listed(single)} a single image"] if single else []
    return " and ".join(parts)


def listed(classes: list[int]) -> str:
    """Classes by number with a verb, many as a count."""
    if len(classes) == 1:
        return f"class {classes[0]} has"
    if len(classes) > LISTED:
        return f"{len(classes)} classes have"
    return f"classes {', '.join(map(str, classes[:-1]))} and {classes[-1]} have"


def work(extent: Extent, stage: str, kind: str) -> Work:
    """A search along maps by passes of one kind."""
    return Work(stage, kind, passes(extent.images, extent.effort.maps))


def search(subject: Subject, changes: Changes, asked: Work, progress: Progress) -> tuple[Mapped, str | None]:
    """The map that these changes follow best, and what was not looked for where some classes take no part."""
    count = counter(progress, asked)
    mapped = search_map(
        changes,
        subject.labels,
        subject.classes,
        softness=subject.softness,
        seed=subject.settings.seed,
        budget=subject.effort.maps,
        progress=count,
    )
    left_out = without(subject)
    among = f"{len(sources(subject.labels, subject.classes))} of the {subject.classes} classes"
    return mapped, f"all-to-all backdoors were looked for among {among}: {left_out}" if left_out else None


def find(criterion: Criterion, measured: tuple[Mapped, str | None], context: Context, by: str) -> Finding:
    """The map, and what share of the images moves along it."""
    mapped, partly = measured
    pairs = tuple((source, attacked) for source, attacked in enumerate(mapped.attacked) if attacked >= 0)
    moves = f"{by} moves {mapped.moved:.0%} of the images it was not made on along a one-to-one map of the classes"
    found = criterion.finding(
        context.levels,
        mapping=pairs,
        value=mapped.moved,
        limit=share_of(context.levels.score, LIMIT),
        score=score(mapped.moved, LIMIT),
        sentence=f"{moves}, as an all-to-all trigger does",
        partly=partly,
    )
    return found if found.exceeds else replace(found, sentence=moves)
