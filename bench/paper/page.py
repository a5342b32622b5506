"""The paper's tables and figures beside what was measured, from stored rows alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

import click

from banscan.files import whole
from bench.paper import beyond, plot, printed, store
from bench.paper import figures as shown
from bench.paper.cells import NO_ROWS, Detected, Repaired, detected, interval, number, repaired, spread
from bench.paper.printed import DETECTION, Line, Table
from bench.paper.store import PAPER, Store
from bench.tables import header

TEXTS = Path(__file__).with_suffix(".md")
MARK = "<!-- page "


def cells(table: Table, known: Store) -> list[tuple[Line, int, Detected | Repaired | None]]:
    """Every printed cell of a table but the averages: its line, the place of its method, and what was measured."""
    parts = ("repair", PAPER, "repair-settings") if any(line.key and line.key.settings for line in table.lines) else ("repair", PAPER)
    found: list[tuple[Line, int, Detected | Repaired | None]] = []
    for line in table.lines:
        if line.key is None:
            continue
        for k, method in enumerate(table.methods):
            if table.kind == DETECTION:
                found.append((line, k, detected(known.scans, method, line.key)))
            else:
                found.append((line, k, repaired(known.mends, method, line.key, parts)))
    return found


def section(table: Table, known: Store) -> list[str]:
    """A table with a line for every cell."""
    lines = [f"## Table {table.number}. {table.title}", ""]
    found = cells(table, known)
    if table.kind == DETECTION:
        lines += header(["row", "method", "printed", "measured: called backdoored", "95 %", "right target", "model seeds", "measured on"])
        lines += [_detection(table, *cell) for cell in found]
    else:
        columns = ["row", "method", "BA printed", "BA measured", "ASR printed", "ASR measured", "n", "model seeds", "measured on"]
        lines += header(columns)
        lines += [_repair(table, *cell) for cell in found]
    for line in table.lines:
        if line.key is None:
            lines += _averages(table, line, found)
    return lines


def _detection(table: Table, line: Line, k: int, seen: Detected | Repaired | None) -> str:
    begin = f"| {', '.join(line.at)} | {table.methods[k]} | {line.printed[k][0]:g} of {table.models} |"
    if not isinstance(seen, Detected):
        return f"{begin} {NO_ROWS} | – | – | – | – |"
    right = "–" if seen.right is None else f"{seen.right} of {seen.count}"
    called = f"{seen.flagged} of {seen.count} | {interval(seen.flagged, seen.count)}"
    return f"{begin} {called} | {right} | {seen.seeds} | {seen.on} |"


def _repair(table: Table, line: Line, k: int, seen: Detected | Repaired | None) -> str:
    (accuracy, rate), (gap, gap_rate) = line.printed[k], line.spread[k]
    begin = f"| {', '.join(line.at)} | {table.methods[k]} |"
    if not isinstance(seen, Repaired):
        return f"{begin} {number(accuracy, gap)} | {NO_ROWS} | {number(rate, gap_rate)} | {NO_ROWS} | – | – | – |"
    count = len(seen.rates)
    shown = f"{number(accuracy, gap)} | {spread(seen.accuracies)} | {number(rate, gap_rate)} | {spread(seen.rates)}"
    return f"{begin} {shown} | {count} | {seen.seeds} | {seen.on} |"


def _averages(table: Table, line: Line, found: Sequence[tuple[Line, int, Detected | Repaired | None]]) -> list[str]:
    """What the paper's last line says, beside the mean over those lines that have rows."""
    lines = ["", "Averages, of the lines that have rows:", ""]
    rows = len({cell[0].at for cell in found})
    if table.kind == DETECTION:
        lines += header(["method", "success printed", "success measured", "lines"])
    else:
        lines += header(["method", "BA printed", "BA measured", "ASR printed", "ASR measured", "lines"])
    for k, method in enumerate(table.methods):
        own = [seen for _, place, seen in found if place == k and seen is not None]
        of = f"{len(own)} of {rows}"
        if table.kind == DETECTION:
            shares = [100 * seen.success / seen.count for seen in own if isinstance(seen, Detected)]
            lines.append(f"| {method} | {line.printed[k][1]:g} % | {f'{mean(shares):.1f} %' if shares else NO_ROWS} | {of} |")
        else:
            pairs = [(mean(seen.accuracies), mean(seen.rates)) for seen in own if isinstance(seen, Repaired)]
            accuracy, rate = (f"{100 * mean(p[j] for p in pairs):.2f}" if pairs else NO_ROWS for j in (0, 1))
            lines.append(f"| {method} | {line.printed[k][0]:g} | {accuracy} | {line.printed[k][1]:g} | {rate} | {of} |")
    return lines


def coverage(tables: Iterable[Table], known: Store) -> list[str]:
    """How many cells of each table have rows, and on what."""
    lines = header(["table", "what", "cells", "with rows on the paper's data set", "on another data set", NO_ROWS, "of them at full width"])
    for table in tables:
        found = [seen for _, _, seen in cells(table, known)]
        own, other = (sum(seen is not None and seen.own == wanted for seen in found) for wanted in (True, False))
        full = sum(seen is not None and "full width" in seen.on for seen in found)
        empty = len(found) - own - other
        lines.append(f"| {table.number} | {table.title} | {len(found)} | {own} | {other} | {empty} | {full} |")
    return lines


def pages(known: Store) -> dict[str, str]:
    """All pages by their file names."""
    tables, figures = printed.read()
    detections, repairs = ([t for t in tables if (t.kind == DETECTION) == wanted] for wanted in (True, False))
    bodies = {
        "coverage": coverage(tables, known),
        "left out": [
            f"- That leaves out {known.weak} rows of weak attacks and {known.poor} of models whose accuracy is 10 points behind the",
            "  best on their data set.",
        ],
        "detection": _joined(section(table, known) for table in detections),
        "repair": _joined(section(table, known) for table in repairs),
        "figures": shown.section(figures, known),
        "beyond": beyond.section(known, {m for t in tables for m in t.methods}),
    }
    made = {}
    for part in TEXTS.read_text().split(MARK)[1:]:
        name, _, text = part.partition(" -->\n")
        for mark, body in bodies.items():
            text = text.replace(f"<!-- {mark} -->", "\n".join(body))
        made[f"{name}.md"] = text.strip("\n") + "\n"
    return made


def _joined(sections: Iterable[list[str]]) -> list[str]:
    return [line for section in sections for line in (*section, "")][:-1]


@click.command()
@click.option("--results", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path("bench/results"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("docs/paper"), show_default=True)
def command(results: Path, out: Path) -> None:
    """Write pages and figures into OUT."""
    out.mkdir(parents=True, exist_ok=True)
    known = store.load(results)
    for name, text in pages(known).items():
        with whole(out / name) as place:
            place.write_text(text)
    if not plot.possible():
        click.echo("Figures are left as they are: they need matplotlib; pip install 'banscan[paper]'.")
        return
    for path in plot.draw(known, out):
        click.echo(path)
