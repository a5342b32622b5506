"""What a scan shows to people: a few small pictures of what it found, beside the numbers.

They are held in memory and written into pages for people only: pixels of somebody's own images have no place in a JSON report, which goes
to logs and other machines.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One clean image.

    Attributes:
        png: the image, RGB or grey, at most `pictures.SIDE` pixels on its longer side.
        label: its class; `was`, the class that the model gives it, and `sure`, with what confidence.
    """

    png: bytes
    label: int
    was: int
    sure: float


@dataclass(frozen=True)
class Seen:
    """A sample under a change.

    Attributes:
        sample: its place among the samples.
        png: the image under the change, rounded to 8 bits as the model was given it; None where neurons are changed and no pixels.
        now: the class that the model gives it then, and `sure`, with what confidence; None where that was not kept.
    """

    sample: int
    png: bytes | None
    now: int
    sure: float | None


@dataclass(frozen=True)
class Change:
    """One change that all images share.

    Attributes:
        criterion: whose search found it.
        target: the class that it is aimed at; None along a map of classes.
        moved: share of the other classes' images that it moves there, of those that the criterion measures on.
        png: the change itself around grey, `gain` times as strong as it is; None of neurons.
        seen: samples under it.
    """

    criterion: str
    target: int | None
    moved: float
    png: bytes | None
    gain: float
    seen: tuple[Seen, ...]


@dataclass(frozen=True)
class Moves:
    """Where images go, class by class.

    Attributes:
        criterion: whose search found the changes.
        aimed: whether every column is a change of its own, aimed at that class; else all columns are the answers under one change.
        sources: the classes of the rows, -1 for all that have no row; `targets`, of the columns.
        shares: a row for each source: the share of its images that go to each target; None for a change aimed at the class itself.
    """

    criterion: str
    aimed: bool
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    shares: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Switch:
    """Dormant neurons that send images to one class when they are forced on.

    Attributes:
        node: the tensor that they are part of, made by `operator`; `neurons` of its `channels`.
        before, after: what that is made from and what reads it, as the graph names them.
        target: the class that `moved`, a share of the other classes' images, go to; living neurons move at most `living`.
    """

    node: str
    operator: str
    neurons: tuple[int, ...]
    channels: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    target: int
    moved: float
    living: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a scan can show of its searches.

    Attributes:
        samples: clean images, drawn by the seed from different classes and not by what becomes of them; `width` and `height` of the images
            that the model takes.
        changes: by criterion, the class that is reached most clearly first.
        moves: by search, those that tell it; `switch`, where dormant neurons lead somewhere.
        images: SHA-256 of all clean images as they were decoded, uint8 [N, H, W, C].
    """

    samples: tuple[Sample, ...]
    width: int
    height: int
    changes: tuple[Change, ...]
    moves: tuple[Moves, ...]
    switch: Switch | None
    images: str
