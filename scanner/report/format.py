"""What a report format is: a file of its own that writes reports to a stream."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from banscan.scanner.findings import Report

if TYPE_CHECKING:
    from banscan.scanner.repair.result import Repair


@dataclass(frozen=True)
class Format:
    """One way to write a report.

    Attributes:
        name: by which `--format` asks for it.
        scan: writes the report of a scan; `repair`, of a repair, where the format has a form for it.
    """

    name: str
    scan: Callable[[Report, TextIO], None]
    repair: "Callable[[Repair, TextIO], None] | None" = None
