"""The report as one page for a browser."""

from typing import TextIO

from banscan.scanner.findings import Report


def write(report: Report, stream: TextIO) -> None:
    """Writes the page of a scan."""
    from banscan.scanner.report.html.page import to_html

    stream.write(to_html(report))
