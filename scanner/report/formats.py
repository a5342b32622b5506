"""The report formats, the usual one first."""

from banscan.scanner.report import json, terminal
from banscan.scanner.report.format import Format

FORMATS: tuple[Format, ...] = (terminal.FORMAT, json.FORMAT)


def named(name: str) -> Format:
    """The format of this name."""
    return next(f for f in FORMATS if f.name == name)
