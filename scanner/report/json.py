"""The machine-readable report, one versioned schema: docs/report.md and docs/report.schema.json."""

import json
import math
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from banscan.errors import UsageError
from banscan.files import check_file
from banscan.scanner.findings import Failure, Report
from banscan.scanner.report.repaired import ATTENTION

if TYPE_CHECKING:
    from banscan.scanner.repair.result import Repair

SCHEMA = "banscan/2"
REPAIR_SCHEMA = "banscan-repair/2"
EXPECTED = "expected a file that `banscan scan -o FILE.json` wrote"
MANY_SCHEMA = "banscan-many/1"
EXPECTED_OF = {
    dict: "an object",
    list: "an array",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
}


def render(report: Report) -> str:
    """The report as JSON text; numbers that are not finite become null."""
    return _text(to_dict(report))


def render_repair(repair: "Repair") -> str:
    """The repair as JSON text, with both scans whole."""
    return _text(repair_to_dict(repair))


def repair_to_dict(repair: "Repair") -> dict[str, Any]:
    """The repair as lists, dictionaries and plain values."""
    scans = {"before": to_dict(repair.before), "after": to_dict(repair.after)}
    document: dict[str, Any] = plain({"schema": REPAIR_SCHEMA, **asdict(repair)} | scans)
    return document | {"caveat": ATTENTION if repair.attention else None}


def failure_to_dict(failure: Failure) -> dict[str, Any]:
    """The failure as plain values."""
    return {"path": str(failure.path), "sha256": failure.sha256, "error": failure.sentence, "exit_code": failure.code}


def to_dict(report: Report) -> dict[str, Any]:
    """The report as lists, dictionaries and plain values."""
    # pixels of somebody's images have no place in logs
    values = asdict(replace(report, evidence=None))
    del values["evidence"]
    document: dict[str, Any] = plain({"schema": SCHEMA, **values})
    return document


def plain(value: Any) -> Any:
    """Values as JSON has them; six digits are what float32 holds."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def read(text: str) -> Report:
    """A report that `render` wrote.

    Raises:
        ValueError: the text is no report of this schema.
    """
    document = json.loads(text)
    if isinstance(document, dict) and document.get("schema") == MANY_SCHEMA:
        raise ValueError(f"no report of the schema {SCHEMA} (it holds many; tell them anew by merge, from their folder of results)")
    if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
        raise ValueError(f"no report of the schema {SCHEMA}")
    document.pop("evidence", None)
    try:
        report: Report = made(Report, document)
    except (ValueError, TypeError, KeyError, UsageError) as error:
        raise ValueError(f"no report of the schema {SCHEMA} ({error})") from error
    from banscan.scanner.report.damage import damage

    wrong = damage(report)
    if wrong is not None:
        raise ValueError(f"no report of the schema {SCHEMA} ({wrong})")
    return report


def read_file(path: Path) -> Report:
    """A report from the file that `-o FILE.json` wrote.

    Raises:
        UsageError: it is none.
    """
    check_file(path, EXPECTED)
    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error if str(error).startswith('no report') else 'no report'}; {EXPECTED}") from error


def made(kind: Any, value: Any, where: str = "") -> Any:
    """A value of this type from what JSON holds; null where a number has to be stands for one that is not finite.

    Args:
        where: the value is in the document, for the error.

    Raises:
        ValueError: it is of another type; TypeError: a field is missing.
    """
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return None if value is None else made(next(k for k in typing.get_args(kind) if k is not type(None)), value, where)
    if is_dataclass(kind):
        own = _of(dict, value, where)
        hints = typing.get_type_hints(kind, _names())
        given = {f.name: made(hints[f.name], own[f.name], _in(where, f.name)) for f in fields(kind) if f.name in own}
        return typing.cast(Any, kind)(**given)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        several = value if isinstance(value, tuple) else _of(list, value, where)
        if inner[-1] is Ellipsis:
            return tuple(made(inner[0], v, where) for v in several)
        if len(several) != len(inner):
            raise ValueError(f"{where}: expected {len(inner)} values")
        return tuple(made(k, v, where) for k, v in zip(inner, several, strict=True))
    if origin is dict:
        return {name: made(inner[1], v, _in(where, name)) for name, v in _of(dict, value, where).items()}
    if kind is Path:
        return Path(_of(str, value, where))
    if kind is float and value is None:
        return math.nan
    return _of(kind, value, where) if kind in EXPECTED_OF else value


def _of(kind: Any, value: Any, where: str) -> Any:
    """The value, which has to be of this type."""
    good = isinstance(value, int | float) and abs(value) <= sys.float_info.max if kind is float else isinstance(value, kind)
    if not good or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where or 'the document'}: expected {EXPECTED_OF[kind]}")
    return value


def _in(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _names() -> dict[str, Any]:
    """The types that `findings` only names, since they bring torch with them."""
    from banscan.importers import Input, Parity
    from banscan.importers.structure.finding import Logic, Structure
    from banscan.scanner.inputs.trial import Tried

    return {k.__name__: k for k in (Input, Logic, Parity, Structure, Tried)}


def _text(document: dict[str, Any]) -> str:
    """In ASCII, control characters escaped: names stay what they are, and a terminal that prints them obeys none."""
    return json.dumps(document, indent=1, allow_nan=False).replace("\x7f", "\\u007f") + "\n"


def write(report: Report, stream: TextIO) -> None:
    """Writes the report of a scan."""
    stream.write(render(report))


def write_many(reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
    """Writes several, and what failed."""
    failed = [failure_to_dict(failure) for failure in failures]
    stream.write(_text({"schema": MANY_SCHEMA, "reports": [to_dict(report) for report in reports], "failures": failed}))


def write_repair(repair: "Repair", stream: TextIO) -> None:
    """Writes the report of a repair."""
    stream.write(render_repair(repair))
