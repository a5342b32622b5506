"""The report as one page for a browser, and many as a page with a line for each."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from banscan.scanner.findings import Failure, Report


def write(report: Report, stream: TextIO) -> None:
    """Writes the page of a scan."""
    from banscan.scanner.report.html.page import to_html

    stream.write(to_html(report))


def write_many(reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
    """Writes the index of many scans; where it is a file, beside it the page of each, which it links."""
    from banscan.scanner.report.html.index import known, pages, to_index
    from banscan.scanner.report.html.page import to_html

    name = getattr(stream, "name", None)
    links = {}
    if isinstance(name, str | os.PathLike) and os.path.isfile(name):
        file = Path(name)
        links = pages(reports, file.stem)
        for report in reports:
            if known(report) in links:
                file.with_name(links[known(report)]).write_text(to_html(report), encoding="utf-8")
    stream.write(to_index(reports, failures, links))
