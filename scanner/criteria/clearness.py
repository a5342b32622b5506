"""Images that one perturbation moves to a class so clearly that the model is as sure of them as of clean ones."""

import math
from dataclasses import replace

from torch import Tensor

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.findings import DECIDES, ONE, SHARE, Finding
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search.changes import SOFTNESS
from banscan.scanner.subject import Subject


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> ClassValues | NotDone:
    """What the criterion *perturbation* measured."""
    measured: ClassValues | NotDone = earlier["perturbation"]
    return measured


def limit_of(odds: Tensor) -> float:
    """The log-odds from where on it counts, for those of the classes [T] that stand for all.

    It is what an image counts that has the median margin of clean images: the perturbed images are no longer near the border between two
    classes, as those of a forced misclassification are. Where the median class is reached at better than even odds, the odds have to be
    better in proportion: such networks are fragile, not backdoored.
    """
    return 1 / SOFTNESS + float(odds.median().clamp(min=0))


def find(criterion: Criterion, measured: ClassValues, context: Context) -> Finding:
    """The class that images are moved to most clearly; the score is its odds over those of the limit."""
    odds = measured.rows[0]
    # of few classes the median says nothing
    usual = odds.new_zeros(1) if context.few else outlier.among(odds, measured.drawn)
    lead, limit = int(odds.argmax()), limit_of(usual)
    target = int(context.searched[lead])
    moved = f"one perturbation moves {measured.shown[lead]:.0%} of the other classes' images to class {target}, and the model is"
    found = criterion.finding(
        context.levels,
        classes=(target,),
        value=float(odds[lead].sigmoid()),
        limit=1 / (1 + math.exp(-limit - math.log(context.levels.score))),
        score=math.exp(float(odds[lead]) - limit),
        sentence=f"{moved} as sure of them as of clean images",
        values=tuple(odds.sigmoid().tolist()),
    )
    return found if found.exceeds else replace(found, sentence=f"{moved} less sure of them than of clean images")


CLEARNESS = Criterion(
    name="clearness",
    asks="Is the model as sure of images that one perturbation moves as of clean ones?",
    sees=ONE,
    power=DECIDES,
    unit=SHARE,
    measure=measure,
    find=find,
    reads=True,
    pixels=True,
)
