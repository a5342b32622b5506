"""One perturbation of all pixels, the same for every image, aimed at each class in turn."""

from dataclasses import replace

import torch
from torch import Tensor

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone, without_gradient
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.criteria.spread import SPREADS
from banscan.scanner.extent import Extent
from banscan.scanner.findings import DECIDES, DEVIATIONS, ONE, Finding
from banscan.scanner.machine.forecast import GRADIENT, LOOK, Work, counter
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search.changes import effect, kept, margins_under
from banscan.scanner.search.universal import universal
from banscan.scanner.subject import Subject

# root mean square over the pixels
RADIUS = 0.036
SENTENCE = "one perturbation aimed at class {c} moves this share of the other classes' images there: {seen}"


def work(extent: Extent) -> tuple[Work, ...]:
    """The search, and its measuring."""
    budget, images = extent.effort.perturbations, extent.images
    return (
        Work("searching for universal perturbations", GRADIENT, budget.steps * min(budget.images, images) * extent.searched),
        Work("measuring the perturbations", LOOK, min(budget.measured, images) * extent.searched),
    )


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> ClassValues | NotDone:
    """A universal perturbation for every class, measured on images drawn from all."""
    why = without_gradient(subject)
    if why is not None:
        return why
    labels, seed, changes = subject.labels, subject.settings.seed, subject.pixel_changes(RADIUS)
    goals = goals_to(subject.searched, subject.classes)
    budget = subject.effort.perturbations
    search, measuring = work(subject.extent)
    found = universal(
        changes,
        labels,
        goals,
        among=torch.arange(len(labels)),
        softness=subject.softness,
        steps=budget.steps,
        batch=budget.images,
        seed=seed,
        progress=counter(progress, search),
    )
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[: budget.measured]
    under = margins_under(changes, labels, goals, found, drawn, counter(progress, measuring))
    moved, success = effect(under, subject.softness)
    return replace(reached(moved, success, subject.drawn), found=kept(found, success, under, drawn))


def goals_to(targets: Tensor, classes: int) -> Tensor:
    """Every class to each of the targets [T]: [T, C], -1 for the target itself."""
    goals = targets[:, None].repeat(1, classes)
    goals[torch.arange(len(targets)), targets] = -1
    return goals


def reached(moved: Tensor, success: Tensor, drawn: Tensor | None = None) -> ClassValues:
    """The measurement from shares of images moved, and from how clearly they are [T]; `drawn` as in `ClassValues`."""
    return outlier.of_shares(success[None], moved, drawn, SPREADS["perturbation"])


def find(criterion: Criterion, measured: ClassValues, context: Context) -> Finding:
    """An outlier test."""
    return outlier.find(criterion, measured, context, SENTENCE)


PERTURBATION = Criterion(
    name="perturbation",
    asks="Does one perturbation of all pixels move the other classes' images to one class?",
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
