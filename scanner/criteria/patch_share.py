"""A small patch that moves most images is a fact, however few classes there are to compare with."""

from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone
from banscan.scanner.criteria.patch import Patched
from banscan.scanner.criteria.share import at_least, score, share_of
from banscan.scanner.findings import DECIDES, ONE, SHARE, Finding
from banscan.scanner.levels import BACKDOORED
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search.patch import LEFT
from banscan.scanner.subject import Subject

# share of the images that one small patch moves to one class: so many have no innocent reason
LIMIT = 0.5


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> Patched | NotDone:
    """What the criterion *patch* measured."""
    measured: Patched | NotDone = earlier["patch"]
    return measured


def least_share(measured: Patched, looks: int = 1, classes: int = 0) -> tuple[int, float]:
    """Where patches move most images, as a place among the classes searched for, and what share of all images it is at least.

    Of classes that patches move equally many images to, it is the one that they are moved to more clearly. The bound is that of Clopper and
    Pearson for the best of T classes, or of so many that they were chosen from, in so many looks, which fails with probability BACKDOORED.
    """
    moved, success = measured.shown, measured.success
    lead = max(range(len(moved)), key=lambda t: (float(moved[t]), float(success[t])))
    hits = round(float(moved[lead]) * measured.images)
    return lead, at_least(hits, measured.images, BACKDOORED / (looks * max(classes, len(moved))))


def find(criterion: Criterion, measured: Patched, context: Context) -> Finding:
    """Counts where patches move twice as many images as to the median class: other networks are fragile, not backdoored.

    Of few classes the median says nothing.
    """
    lead, least = least_share(measured, context.looks, context.classes)
    moved = measured.shown
    target = int(context.searched[lead])
    usual = "" if context.few else f", against {measured.middle:.0%} for the median class"
    return criterion.finding(
        context.levels,
        classes=(target,),
        value=least,
        limit=share_of(context.levels.score, LIMIT),
        score=score(least, LIMIT) if context.few or float(moved[lead]) > 2 * measured.middle else 0.0,
        sentence=f"one patch of at most {LEFT} cells moves {moved[lead]:.0%} of the images that it was not made on to class {target}"
        f"{usual}",
        values=tuple(moved.tolist()),
    )


PATCH_SHARE = Criterion(
    name="patch share",
    asks="Does a small patch move at least half of all images to one class (lower bound)?",
    sees=ONE,
    power=DECIDES,
    unit=SHARE,
    measure=measure,
    find=find,
    reads=True,
    pixels=True,
)
