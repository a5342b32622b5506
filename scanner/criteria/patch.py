"""The best small patch for each class, searched by mutation."""

from dataclasses import dataclass, replace

from torch import Tensor

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone, without_pixels
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.criteria.perturbation import RADIUS, goals_to
from banscan.scanner.criteria.spread import SPREADS
from banscan.scanner.effort import at_most
from banscan.scanner.extent import Extent
from banscan.scanner.findings import DECIDES, DEVIATIONS, ONE, Finding
from banscan.scanner.machine.forecast import LOOK, Work, counter
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search import patch
from banscan.scanner.search.changes import effect, kept, margins_under
from banscan.scanner.search.class_map import two_thirds
from banscan.scanner.search.spread import evenly
from banscan.scanner.subject import Subject

SENTENCE = "one small patch moves this share of the other classes' images to class {c}: {seen}"


@dataclass(frozen=True, kw_only=True)
class Patched(ClassValues):
    """What the best patch of every class does to images that it was not sought on: how clearly it moves them [T].

    `images` is how many of other classes there are at least for each class.
    """

    success: Tensor
    images: int


def work(extent: Extent) -> tuple[Work, ...]:
    """The search, and its measuring."""
    budget, targets = extent.effort.patches, extent.searched
    return (
        Work("searching for patches", LOOK, patch.passes(targets, extent.images - extent.held, budget, begun=extent.begun)),
        Work("measuring the patches", LOOK, at_most(extent.held, budget.measured) * targets),
    )


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> Patched | NotDone:
    """A patch for every class, sought on two images of three and measured on the others."""
    why = without_pixels(subject)
    if why is not None:
        return why
    model, pixels, labels, searched = subject.pixel_model, subject.pixels, subject.labels, subject.searched
    seed, softness, budget = subject.settings.seed, subject.softness, subject.effort.patches
    searching = two_thirds(labels, seed)
    search, measuring = work(subject.extent)
    count = counter(progress, search)
    found = patch.search_patches(
        model,
        pixels[searching],
        labels[searching],
        searched,
        softness=softness,
        seed=seed,
        budget=budget,
        rung=subject.rung,
        progress=count,
    )
    count.end()
    held = (~searching).nonzero()[:, 0]
    held = evenly(held[labels[held].argsort(stable=True)], at_most(len(held), budget.measured)).sort().values
    # a patch is a change of pixels like any other; how far it goes is not asked
    changes, goals = subject.pixel_changes(RADIUS), goals_to(searched, subject.classes)
    patches = patch.changes(model, pixels, found)
    under = margins_under(changes, labels, goals, patches, held, counter(progress, measuring))
    moved, success = effect(under, softness)
    foreign = int((labels[held][:, None] != searched).sum(0).min())
    return replace(reached(moved, success, foreign, subject.drawn), found=kept(patches, success, under, held))


def reached(moved: Tensor, success: Tensor, images: int, drawn: Tensor | None = None) -> Patched:
    """The measurement from shares of images moved, and from how clearly they are [T]; `drawn` as in `ClassValues`."""
    values = outlier.of_shares(success[None], moved, drawn, SPREADS["patch"])
    return Patched(values.rows, values.least, values.shown, drawn=drawn, spread=values.spread, success=success, images=images)


def find(criterion: Criterion, measured: Patched, context: Context) -> Finding:
    """An outlier test."""
    return outlier.find(criterion, measured, context, SENTENCE)


PATCH = Criterion(
    name="patch",
    asks="Does one small patch move the other classes' images to one class?",
    sees=ONE,
    power=DECIDES,
    unit=DEVIATIONS,
    measure=measure,
    find=find,
    work=work,
    searches=True,
    compares=True,
    pixels=True,
)
