"""What `banscan doctor` found, for a person or as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

from rich.text import Text

from banscan.scanner.doctor import Check
from banscan.scanner.report.console import console
from banscan.scanner.report.pieces import pairs
from banscan.text import shown


def write(checks: Sequence[Check], stream: TextIO, *, as_json: bool) -> None:
    """Writes the checks, what to do, and whether scans can run."""
    wrong = any(check.wrong for check in checks)
    if as_json:
        document = {"schema": "banscan-doctor/1", "works": not wrong, "checks": [asdict(check) for check in checks]}
        stream.write(json.dumps(document, indent=1).replace("\x7f", "\\u007f") + "\n")
        return
    on = console(stream)
    table = pairs("What is here")
    for check in shown(tuple(checks)):
        table.add_row(check.name, Text(check.found, style="red" if check.wrong else "yellow" if check.advice else ""))
    on.print(table)
    for advice in dict.fromkeys(check.advice for check in shown(tuple(checks)) if check.advice):
        on.print(Text(f"To do, where it matters: {advice}"))
    on.print(Text("Scans cannot run here." if wrong else "Scans can run here.", style="bold red" if wrong else "bold green"))
