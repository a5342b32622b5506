"""What a report format is: a name, the suffixes of its files, and a module that writes reports to a stream.

The module has `write(report, stream)`, `write_many(reports, failures, stream)`, and where the format has a form for it
`write_repair(repair, stream)`. It is loaded when it is needed: the command line's --help must not wait for what it imports.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from banscan.scanner.findings import Failure, Report

if TYPE_CHECKING:
    from banscan.scanner.repair.result import Repair


def _nothing() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to write a report.

    Attributes:
        name: by which `--format` asks for it.
        module: that writes it, below `banscan.scanner.report`.
        suffixes: of the files that `-o` writes in it.
        repairs: whether it has a form for a repair.
        missing: says what has to be there before it can be written; None where nothing is missing.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    repairs: bool = False
    missing: Callable[[], str | None] = _nothing

    def scan(self, report: Report, stream: TextIO) -> None:
        """Writes the report of a scan."""
        self._writer().write(report, stream)

    def many(self, reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
        """Writes the reports of many scans into one document, with the scans that failed."""
        self._writer().write_many(reports, failures, stream)

    def repair(self, repair: "Repair", stream: TextIO) -> None:
        """Writes the report of a repair."""
        self._writer().write_repair(repair, stream)

    def _writer(self) -> Any:
        return import_module(f"banscan.scanner.report.{self.module}")
