"""One perturbation of the pixels along a one-to-one map of classes: what an all-to-all trigger does."""

from banscan.scanner.criteria import class_maps
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone, without_gradient
from banscan.scanner.extent import Extent
from banscan.scanner.findings import ALL, DECIDES, SHARE, Finding
from banscan.scanner.machine.forecast import GRADIENT, Work
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.subject import Subject

# root mean square over the pixels
RADIUS = 0.054


def work(extent: Extent) -> tuple[Work, ...]:
    """The search along maps."""
    return (class_maps.work(extent, "searching for a map of classes", GRADIENT),)


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> tuple[Mapped, str | None] | NotDone:
    """The map that a perturbation follows best."""
    why = class_maps.missing(subject) or without_gradient(subject)
    if why is not None:
        return why
    (search,) = work(subject.extent)
    return class_maps.search(subject, subject.pixel_changes(RADIUS), search, progress)


def find(criterion: Criterion, measured: tuple[Mapped, str | None], context: Context) -> Finding:
    """The share of the images that one perturbation moves along the map."""
    return class_maps.find(criterion, measured, context, "one perturbation")


PIXEL_MAP = Criterion(
    name="pixel map",
    asks="Does one perturbation move all classes along a one-to-one map (all-to-all)?",
    sees=ALL,
    power=DECIDES,
    unit=SHARE,
    measure=measure,
    find=find,
    work=work,
    searches=True,
    pixels=True,
)
