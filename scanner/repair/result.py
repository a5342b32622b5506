"""What a repair did, in plain values: what reports of it are made from, without torch and without the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    def to_dict(self) -> dict[str, Any]:
        """The repair with both scans as lists, dictionaries and plain values: what `--format json` writes (docs/report.md)."""
        from banscan.scanner.report.json import repair_to_dict

        return repair_to_dict(self)

    def to_html(self) -> str:
        """Verdict, score and benign accuracy before and after as a self-contained page; `before` and `after` have pages of their own."""
        from banscan.scanner.report.html.short import of_repair

        return of_repair(self).to_html()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from banscan.scanner.report.html.short import of_repair

        return of_repair(self).framed()
