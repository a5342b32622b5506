"""Reports in which every text that can come from a file is hostile."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from banscan.scanner.findings import Report
from banscan.scanner.settings import Settings


def hostile(value: Any, name: str) -> Any:
    """The value with this in all its texts."""
    if isinstance(value, str):
        return f"{value}{name}"
    if isinstance(value, Path):
        return value.with_name(f"{value.name}{name}".replace("/", "|"))
    if isinstance(value, tuple):
        return tuple(hostile(v, name) for v in value)
    if is_dataclass(value) and not isinstance(value, type | Settings):
        return replace(value, **{f.name: hostile(getattr(value, f.name), name) for f in fields(value)})
    return value


def marked(report: Report, name: str) -> Report:
    """The report with this in all texts that a file may hold."""
    return replace(
        report,
        # computed, and read as nothing else
        model=replace(hostile(report.model, name), format=report.model.format, sha256=report.model.sha256),
        images=replace(report.images, unreadable=(name, "b"), labels=name),
        class_names=tuple(f"class {c} {name}" for c in range(report.model.classes)),
        environment={k: f"{v}{name}" for k, v in report.environment.items()},
    )
