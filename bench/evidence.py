"""Writes the page of evidence: `evidence.md` beside this file, with the tables of the rows of results where it asks for them.

python -m bench.evidence --results bench/results --out docs/evidence.md
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from banscan.files import whole
from bench import ablation, floor, repair, tables
from bench.baselines import table as baselines
from bench.rows import read

PAGE = Path(__file__).with_suffix(".md")
# a line of the page that stands for tables, by the name of their rows
MARK = re.compile(r"^<!-- (\S+) -->$", re.MULTILINE)
BODIES: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "ablation": ablation.page,
    "baselines": baselines.page,
    "examples": partial(tables.page, held=False),
    "floor": floor.page,
    "held": partial(tables.page, held=True),
    "repair": repair.page,
    "repair-earlier": repair.table,
    "repair-few": repair.page,
    "repair-settings": repair.page,
    "tune": partial(tables.page, held=False),
}


def body(part: str, results: Path) -> str:
    """The tables of one part of the page; `summary` and `missed` are drawn from those of held-out models."""
    if part == "summary":
        lines = [*tables.headline(tables.learnt(read(results / "held.jsonl"))[0], held=True), *repair.short(read(results / "repair.jsonl"))]
    elif part == "missed":
        lines = tables.missed(tables.learnt(read(results / "held.jsonl"))[0])
    else:
        lines = BODIES[part](read(results / f"{part}.jsonl"))
    return "\n".join(lines)


@click.command()
@click.option("--results", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path("bench/results"), show_default=True)
@click.option("--only", type=click.Choice(sorted(BODIES)), help="Print the tables of this part.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the page there.")
def main(results: Path, only: str | None, out: Path | None) -> None:
    """Print the page of evidence, or write it."""
    page = body(only, results) if only else MARK.sub(lambda mark: body(mark[1], results), PAGE.read_text()).rstrip("\n")
    if out is None:
        click.echo(page)
        return
    with whole(out) as place:
        place.write_text(page + "\n")


if __name__ == "__main__":
    main()
