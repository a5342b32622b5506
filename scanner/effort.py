"""How much every search does: a first look, the whole search, and a glance at networks whose passes are dear."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Neuron noise towards every class.

    Attributes:
        restarts: independent searches, at most; `images`, drawn for a step, at most; `read`, those that what is found is read off on, at
            most; `shown`, those that show what the paper's own criterion says, likewise. None for no bound.
        sample: classes that the strength is found with, in so many `tries`, on `seen` images at most; `near`, how far from what is aimed
            at the share of images may be for the search for it to end.
    """

    restarts: int | None
    images: int | None
    read: int | None
    shown: int | None
    sample: int
    tries: int
    seen: int | None
    near: float


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Ascent to the largest margins: from so many images, in so many steps."""

    starts: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Perturbations:
    """A perturbation towards every class: images drawn for each of so many steps, images that measure it."""

    steps: int
    images: int
    measured: int


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Patches for every class.

    Attributes:
        first: patches that are drawn; `generations` of mutants follow.
        look: images that every patch is tried on; of each class the best `kept` are tried on so many that there are `images`.
        final: images that the best of the last generation are compared on.
        trimming: images that tell which cells of a patch are needed, in so many `rounds`.
        measured: images that measure what is found, at most; None for no bound.
    """

    first: int
    generations: int
    look: int
    kept: int
    images: int
    final: int
    trimming: int
    rounds: int
    measured: int | None


@dataclass(frozen=True, kw_only=True)
class Maps:
    """A change along a map of the classes: steps for the surer half of it and then for all, images drawn for a step, tries of each."""

    steps: tuple[int, int]
    images: int
    tries: int


@dataclass(frozen=True, kw_only=True)
class Transforms:
    """Changes of the whole image.

    Attributes:
        look: images that every try is seen by; of those that move a share worth while, the best `kept` of each class by `first` images.
        images: that the best are compared on; `leading`, classes that it is improved for, in so many `rounds`.
    """

    look: int
    kept: int
    first: int
    images: int
    leading: int
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Race:
    """A perturbation towards every class of many, to see which are in front: steps, images drawn for each, images that measure it."""

    steps: int
    images: int
    measured: int


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much every search does."""

    race: Race
    noise: Noise
    margins: Margins
    perturbations: Perturbations
    patches: Patches
    maps: Maps
    transforms: Transforms


def at_most(asked: int, bound: int | None) -> int:
    """What is asked for, within a bound where there is one."""
    return asked if bound is None else min(asked, bound)


WHOLE = Effort(
    race=Race(steps=6, images=4, measured=16),
    noise=Noise(restarts=None, images=None, read=None, shown=None, sample=16, tries=7, seen=None, near=0.0),
    margins=Margins(starts=4, steps=30),
    perturbations=Perturbations(steps=24, images=16, measured=200),
    patches=Patches(first=2048, generations=3, look=8, kept=0, images=8, final=48, trimming=8, rounds=2, measured=None),
    maps=Maps(steps=(80, 50), images=64, tries=2),
    transforms=Transforms(look=16, kept=0, first=16, images=48, leading=3, rounds=3),
)
FIRST_LOOK = Effort(
    race=Race(steps=6, images=4, measured=16),
    noise=Noise(restarts=1, images=32, read=96, shown=None, sample=8, tries=6, seen=96, near=0.08),
    margins=Margins(starts=2, steps=20),
    perturbations=Perturbations(steps=10, images=8, measured=64),
    patches=Patches(first=2048, generations=1, look=2, kept=4, images=8, final=16, trimming=3, rounds=1, measured=80),
    maps=Maps(steps=(30, 20), images=32, tries=1),
    transforms=Transforms(look=3, kept=2, first=16, images=32, leading=1, rounds=2),
)
GLANCE = Effort(
    race=Race(steps=4, images=4, measured=8),
    noise=Noise(restarts=1, images=24, read=64, shown=96, sample=6, tries=4, seen=48, near=0.1),
    margins=Margins(starts=1, steps=12),
    perturbations=Perturbations(steps=8, images=4, measured=32),
    patches=Patches(first=1024, generations=1, look=2, kept=2, images=6, final=8, trimming=2, rounds=1, measured=48),
    maps=Maps(steps=(16, 10), images=24, tries=1),
    transforms=Transforms(look=2, kept=2, first=12, images=24, leading=1, rounds=1),
)
