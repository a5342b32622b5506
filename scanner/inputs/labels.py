"""What is known of the labels of a folder's files, whatever they come from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Labels:
    """Labels of a list of files.

    Attributes:
        of: the class of each file, None for those that are left out; None as a whole where there are no labels.
        taken: the files that are used where there are no labels.
        by: what they come from, as reports say it.
        told: the same as a part of a sentence that goes on after "430 images".
        left_out: what was left out and why, a phrase each.
    """

    of: dict[Path, int] | None
    taken: list[Path]
    by: str
    told: str
    left_out: tuple[str, ...] = ()


def from_one(classes: int) -> str:
    """How to name classes that are numbered from 1 in a file, those that have no images among them."""
    return f"the lines 1 to {classes}, also for classes without images (seq 1 {classes} > classes.txt)"


def based(numbers: set[int], classes: int) -> int:
    """What the first class is called: 1 where numbers run up to that of the classes, most of them are there, and 0 is not; else 0."""
    return 1 if max(numbers, default=0) == classes and 0 not in numbers and len(numbers) >= max(2, classes / 2) else 0
