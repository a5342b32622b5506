"""Which classes of a model of many are searched for as targets: some that are drawn at random, and those that a short look puts in front.

Searches for every class of a hundred say little that searches for a third of them do not: the others are there to be compared with, and a
random sample of them serves for that. A class that is no outlier by anything that a short look sees is seldom one by a long search. The
sample is drawn by the seed before anything is looked at, and what leads is compared with nothing but the sample, so that choosing the
leaders by evidence takes nothing from the level: whatever they were chosen by, each is an outlier among classes drawn at random with the
probability that it would have had if all had been searched for, and all classes of the model are paid for, not those that were chosen.
"""

import torch
from torch import Tensor

from banscan.scanner.criteria.perturbation import RADIUS, goals_to
from banscan.scanner.extent import Extent
from banscan.scanner.machine.forecast import GRADIENT, LOOK, Work, counter
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search import patch
from banscan.scanner.search.changes import effect, margins_under
from banscan.scanner.search.class_map import two_thirds
from banscan.scanner.search.universal import universal
from banscan.scanner.settings import Settings
from banscan.scanner.subject import Subject, foreign_logits, sample, together

# of so few classes all are searched for: the sample, those in front and the short look would cost as much
FEW = 64
# classes that are drawn: Student's t has 30 degrees of freedom then, and an outlier has to be an eighth further out than among 100
DRAWN = 32
# classes in front by each of the three ways to look; in every backdoored model of 43 classes that settings were tried on, the target was
# the first by one of them
FRONT = 3
WAYS = 3


def wanted(classes: int, settings: Settings) -> bool:
    """Whether not all are searched for. Neuron noise alone is cheap, and a thorough scan leaves nothing out."""
    return classes > FEW and settings.pixels and settings.effort != "thorough"


def most(classes: int, settings: Settings) -> int:
    """How many classes are searched for at most."""
    return DRAWN + WAYS * FRONT if wanted(classes, settings) else min(classes, settings.targets)


def work(extent: Extent, classes: int) -> tuple[Work, ...]:
    """The first patches, for all classes at once, and the perturbations; nothing where all are searched for."""
    if not wanted(classes, extent.settings):
        return ()
    budget, sought = extent.effort.race, extent.images - extent.held
    looked = min(classes, extent.settings.targets)
    return (
        Work("trying patches for all classes", LOOK, patch.rung_passes(classes, sought, extent.effort.patches)),
        Work("trying perturbations for all classes", GRADIENT, budget.steps * min(budget.images, sought) * looked),
        Work("measuring them", LOOK, min(budget.measured, sought) * looked),
    )


def raced(subject: Subject, progress: Progress) -> Subject:
    """The subject with the classes that are searched for by the effort it has; as it is where those are all."""
    settings = subject.settings
    if not wanted(subject.classes, settings):
        return subject
    drawn = sample(subject.classes, DRAWN, settings.seed)
    own = two_thirds(subject.labels, settings.seed).nonzero()[:, 0]
    # a class that all images are of has none on others
    logits = foreign_logits(subject.logits, subject.labels).nan_to_num(-torch.inf)
    trying, *searching = work(subject.extent, subject.classes)
    count = counter(progress, trying)
    rung = patch.first_rung(
        subject.pixel_model,
        subject.pixels[own],
        subject.labels[own],
        torch.arange(subject.classes),
        softness=subject.softness,
        seed=settings.seed,
        budget=subject.effort.patches,
        progress=count,
    )
    count.end()
    ways = [logits, rung.reached.max(0).values]
    if subject.misled is None:
        ways.append(_perturbed(subject, own, logits, searching, progress))
    front = torch.cat([way.topk(FRONT).indices for way in ways])
    chosen, among = together(drawn, front)
    return subject.altered(searched=chosen, drawn=among, rung=rung.towards(chosen))


def _perturbed(subject: Subject, own: Tensor, logits: Tensor, works: list[Work], progress: Progress) -> Tensor:
    """How clearly a short search for a perturbation moves the images `own` to each class [C], -inf where there was none.

    Where there are more classes than `targets`, it is made for so many of those with the largest logits on images of others.
    """
    targets = logits.argsort(descending=True, stable=True)[: subject.settings.targets].sort().values
    changes, budget, seed = subject.pixel_changes(RADIUS), subject.effort.race, subject.settings.seed
    goals = goals_to(targets, subject.classes)
    searching, measuring = works
    found = universal(
        changes,
        subject.labels,
        goals,
        among=own,
        softness=subject.softness,
        steps=budget.steps,
        batch=budget.images,
        seed=seed,
        progress=counter(progress, searching),
    )
    drawn = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(seed))[: budget.measured]]
    under = margins_under(changes, subject.labels, goals, found, drawn, counter(progress, measuring))
    return torch.full((subject.classes,), -torch.inf).index_copy(0, targets, effect(under, subject.softness)[1])
