"""The report formats, the usual one first."""

from importlib.util import find_spec
from pathlib import Path

from banscan.errors import UsageError
from banscan.scanner.report.format import Format


def _no_bom() -> str | None:
    return None if find_spec("cyclonedx") else "a CycloneDX bill of materials needs a package more: pip install 'banscan[sbom]'"


FORMATS: tuple[Format, ...] = (
    Format(name="terminal", module="terminal", suffixes=(".txt",), repairs=True),
    Format(name="json", module="json", suffixes=(".json",), repairs=True),
    Format(name="sarif", module="sarif", suffixes=(".sarif", ".sarif.json")),
    Format(name="html", module="html", suffixes=(".html", ".htm")),
    Format(name="markdown", module="markdown", suffixes=(".md",)),
    Format(name="junit", module="junit", suffixes=(".xml",)),
    Format(name="cyclonedx", module="bom", suffixes=(".cdx.json",), missing=_no_bom),
    Format(name="baseline", module="accepted", suffixes=(".baseline.json",)),
)
SUFFIXES = {suffix: format_ for format_ in FORMATS for suffix in format_.suffixes}


def named(name: str) -> Format:
    """The format of this name."""
    return next(f for f in FORMATS if f.name == name)


def of(path: Path) -> Format:
    """The format of a file by the end of its name, the longest that fits.

    Raises:
        UsageError: there is none of this name.
    """
    fitting = [suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)]
    if not fitting:
        raise UsageError(f"{path}: the end of the name says the format; expected one of {', '.join(SUFFIXES)}")
    return SUFFIXES[max(fitting, key=len)]


def check(format_: Format, what: str) -> None:
    """Raises UsageError for a format that cannot be written here; `what` is the option or the file that asks for it."""
    why = format_.missing()
    if why is not None:
        raise UsageError(f"{what}: {why}")
