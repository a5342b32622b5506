"""Where reports go: stdout in one format, and files in the formats that their names ask for."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from banscan.errors import UsageError
from banscan.scanner.cli.console import check_output, destination
from banscan.scanner.cli.streams import say
from banscan.scanner.findings import Failure, Report
from banscan.scanner.report import formats


def check(format_: str, outputs: Sequence[Path], files: Iterable[Path | None], folders: Iterable[Path], *, quiet: bool = False) -> None:
    """Raises UsageError, before any work, for a format or a file that could not be written; `files` and `folders` are what is read."""
    formats.check(formats.named(format_), f"--format {format_}")
    if quiet and format_ != "terminal":
        raise UsageError(f"--format {format_}: --quiet prints one line in its place; leave one of the two out, or write it with -o FILE")
    read, inside = tuple(files), tuple(folders)
    for i, output in enumerate(outputs):
        check_output(output, read, inside)
        formats.check(formats.of(output), str(output))
        if os.path.realpath(output) in {os.path.realpath(other) for other in outputs[:i]}:
            raise UsageError(f"{output}: given twice as an output; name it once")


def check_found(format_: str, outputs: Sequence[Path]) -> None:
    """Raises UsageError for a baseline of a dry run, which finds nothing: it would be empty, and look as if nothing had been found."""
    asked = [(formats.named(format_), f"--format {format_}"), *((formats.of(output), str(output)) for output in outputs)]
    for format_asked, what in asked:
        if format_asked.name == "baseline":
            raise UsageError(f"{what}: a dry run finds nothing that a baseline could accept; scan without --dry-run, or leave it out")


def write(report: Report, outputs: Sequence[Path]) -> None:
    """Writes the report of one scan into every file."""
    for output in outputs:
        with destination(output) as stream:
            formats.of(output).scan(report, stream)


def write_many(reports: Sequence[Report], failures: Sequence[Failure], outputs: Sequence[Path]) -> None:
    """Writes the reports of many scans into every file."""
    for output in outputs:
        with destination(output) as stream:
            formats.of(output).many(reports, failures, stream)


def explain(code: int, reports: Iterable[Report]) -> None:
    """Says on stderr why something was found and the exit code is 0 all the same."""
    from banscan.scanner.report.results import settled

    if code == 0 and any(map(settled, reports)):
        say("the baseline accepts everything that was found, so the exit code is 0")


def show(report: Report, format_: str, *, quiet: bool, verbose: bool) -> None:
    """Writes the report of one scan to stdout."""
    with destination(None) as stream:
        if quiet:
            from banscan.scanner.report import summary

            stream.write(f"{summary.line(report)}\n")
        elif verbose and format_ == "terminal":
            from banscan.scanner.report import terminal

            terminal.write_all(report, stream)
        else:
            formats.named(format_).scan(report, stream)
