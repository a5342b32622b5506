"""What `banscan selftest` measured, for a person or as JSON."""

import json
from typing import TYPE_CHECKING, TextIO

from rich.table import Table
from rich.text import Text

from banscan.scanner.report.console import console
from banscan.text import counted, shown

if TYPE_CHECKING:
    from banscan.scanner.selftest.run import Compared, Selftest


def write(found: "Selftest", stream: TextIO, *, as_json: bool) -> None:
    """Writes every number beside its reference, and whether all of them agree."""
    if as_json:
        stream.write(json.dumps(found.to_dict(), indent=1).replace("\x7f", "\\u007f") + "\n")
        return
    on, safe = console(stream), shown(found)
    table = Table(title="A planted trigger, scanned and repaired", title_justify="left", box=None, pad_edge=False)
    for name in ("", "here", "reference", ""):
        table.add_column(name, justify="right" if name else "left")
    for one in safe.compared:
        style = "" if one.good else "bold red"
        table.add_row(one.name, _number(one.value), f"{_number(one.reference)}{_spread(one)}", "" if one.good else "differs", style=style)
    on.print(table)
    on.print(Text(sentence(safe), style="bold green" if safe.passed else "bold red"))


def sentence(found: "Selftest") -> str:
    """What came of it."""
    told = (("", "device"), ("kernels ", "kernels"), ("search in ", "search precision"))
    where = ", ".join(f"{word}{found.environment[name]}" for word, name in told if name in found.environment)
    if found.passed:
        return f"This installation gives the reference numbers ({where})."
    wrong = [one.name for one in found.compared if not one.good]
    advice = "look at banscan doctor, install banscan again, and report it with banscan selftest --json if it stays so"
    return f"This installation does not give the reference numbers ({where}): {counted(len(wrong), 'differs', 'differ')}; {advice}."


def _number(value: float | str | None) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"


def _spread(one: "Compared") -> str:
    return "" if not one.tolerance else f" ± {_number(one.tolerance)}"
