"""Neuron noise along a one-to-one map of classes: what an all-to-all backdoor leaves in a network."""

from banscan.scanner.criteria import class_maps
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone
from banscan.scanner.extent import Extent
from banscan.scanner.findings import ALL, DECIDES, SHARE, Finding
from banscan.scanner.machine.forecast import NOISE, Work
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.subject import Subject

# noise along a map may be stronger by this: it moves every class at once
FARTHER = 1.5


def work(extent: Extent) -> tuple[Work, ...]:
    """The search along maps."""
    return (class_maps.work(extent, "searching for noise along a map of classes", NOISE),)


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> tuple[Mapped, str | None] | NotDone:
    """The map that neuron noise follows best."""
    why = class_maps.missing(subject) or chosen(subject)
    if why is not None:
        return why
    eps = earlier["noise"].eps
    (search,) = work(subject.extent)
    return class_maps.search(subject, subject.neurons.changes(FARTHER * eps), search, progress)


def chosen(subject: Subject) -> NotDone | None:
    """The limit holds for as much noise as the scan finds by itself, on the layers that it takes by itself.

    Stronger noise, or noise on more layers, moves more than that along a map in clean models.
    """
    settings = subject.settings
    given = {"--noise": settings.noise != "normalised", "--eps": settings.eps is not None, "--depth": settings.depth is not None}
    names = [name for name, is_given in given.items() if is_given]
    if not names:
        return None
    return NotDone(
        f"its limit holds only for noise whose form, strength and layers the scan chooses by itself (leave out {', '.join(names)})"
    )


def find(criterion: Criterion, measured: tuple[Mapped, str | None], context: Context) -> Finding:
    """The share of the images that noise moves along the map."""
    return class_maps.find(criterion, measured, context, "neuron noise")


NOISE_MAP = Criterion(
    name="noise map",
    asks="Does neuron noise move all classes along a one-to-one map (all-to-all)?",
    sees=ALL,
    power=DECIDES,
    unit=SHARE,
    measure=measure,
    find=find,
    work=work,
    searches=True,
)
