"""What is found in the structure of a file, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any

from banscan.importers.model import Input

# what a place in the graph is: it decides between values, between parts of the graph, or leads past the network
DECISION, BRANCH, BYPASS = "decision", "branch", "bypass"
# what became of it: forced to its other state all images go to one class; or many change; or nothing follows; or it was not forced
PROVED, SUSPICIOUS, IDLE, SEEN = "proved", "suspicious", "idle", "seen"


@dataclass(frozen=True, kw_only=True)
class Logic:
    """A place in the graph that depends on the pixels and may decide on the answer.

    Attributes:
        tensor, node, operator: the tensor that holds the decision, and what computes it.
        kind: DECISION, BRANCH or BYPASS.
        before, after: fewest operators with weights on a path from the pixels to it, and from it to the logits.
        outcome: PROVED, SUSPICIOUS, IDLE or SEEN.
        constant: whether it is the same for all clean images; None where no images were at hand.
        state: what it was forced to; `moved`, the share of the other classes' clean images that go to class `target` then; `changed`, the
            share of all clean images that get another answer then.
    """

    tensor: str
    node: str
    operator: str
    kind: str
    before: int
    after: int
    outcome: str = SEEN
    constant: bool | None = None
    state: str | None = None
    target: int | None = None
    moved: float | None = None
    changed: float | None = None


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Everything that was found in the structure of a file.

    Attributes:
        places: what decides by the pixels, those that were proved first.
        shortest, longest: fewest and most operators with weights on a path from the pixels to the logits.
        images: how many clean images it was run on; 0 for a look without images.
        not_done: why it was not run, or not to the end.
        apart: whether the network was read, and scanned, without the switches that were found; what they do is not part of it then.
    """

    places: tuple[Logic, ...] = ()
    shortest: int | None = None
    longest: int | None = None
    images: int = 0
    not_done: str | None = None
    apart: bool = False

    @property
    def proofs(self) -> tuple[Logic, ...]:
        return tuple(p for p in self.places if p.outcome == PROVED)

    @property
    def doubts(self) -> tuple[Logic, ...]:
        """Places that alone keep a file from being called clean."""
        return tuple(p for p in self.places if p.outcome == SUSPICIOUS)


@dataclass(frozen=True)
class Look:
    """What is seen of a file without images.

    Attributes:
        unsettled: whether one of the places may be the reason why the graph cannot be read as a classifier.
        input, classes: what it takes, and how many scores it answers; 0 where that was not asked or not found.
    """

    structure: Structure
    unsettled: bool
    input: Input
    classes: int


def plain(structure: Structure) -> dict[str, Any]:
    """As lists, dictionaries and numbers."""
    return asdict(structure)


def restored(given: dict[str, Any]) -> Structure:
    """What `plain` wrote."""
    return Structure(**given | {"places": tuple(Logic(**place) for place in given["places"])})
