"""What a repair did, in plain values: what reports of it are made from, without torch and without the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from banscan.scanner.findings import Report
from banscan.scanner.repair.settings import Tuning

if TYPE_CHECKING:
    from banscan.importers import Parity


@dataclass(frozen=True)
class Mended:
    """What the tuning did.

    Attributes:
        tuned, held: images tuned on, and images kept from it to measure on.
        accuracy: the benign accuracy on those, before and after.
        losses: per epoch, on clean images and under noise (NaN where there is none).
        parity: of the written file under its own runtime with the graph that was read from it.
    """

    output: Path
    method: str
    settings: Tuning
    tuned: int
    held: int
    accuracy: tuple[float, float]
    losses: tuple[tuple[float, float], ...]
    parity: "Parity"


@dataclass(frozen=True)
class Repair:
    """What a repair did, and the proof of it: the scans of the file that was given and of the one that was written.

    `attention` says whether the network works with attention: repairs of such networks are not known to hold.
    """

    mended: Mended
    before: Report
    after: Report
    attention: bool
