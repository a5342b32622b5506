"""Writes the pages of evidence: the texts of `evidence.md` beside this file, with the tables of the rows of results in them.

python -m bench.evidence --results bench/results --out docs/evidence.md

writes docs/evidence.md, the summary, and docs/evidence/PART.md for every part.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from banscan.files import whole
from bench import ablation, clean, controls, effort, few, floor, joint, kinds, logic, maps, mmbd, probability, repair, tables, transforms
from bench.baselines import table as baselines
from bench.conventions import table as conventions
from bench.dormant import table as dormant
from bench.fuzz import table as fuzz
from bench.rows import HELD, LOOKED, read

TEXTS = Path(__file__).with_suffix(".md")
# a line of the texts that begins the page of a part; what is in front of the first one is the summary
BREAK = re.compile(r"^<!-- page (\S+) -->\n", re.MULTILINE)
# a line that stands for tables, by the name of their rows
MARK = re.compile(r"^<!-- (\S+) -->$", re.MULTILINE)
BODIES: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "ablation": ablation.page,
    "baselines": baselines.page,
    "baselines-examples": baselines.each,
    "clean": clean.page,
    "controls": controls.page,
    "conventions": conventions.page,
    "conventions-scans": conventions.scans,
    "dormant": dormant.page,
    "examples": partial(tables.page, held=False),
    "few": few.page,
    "floor": floor.page,
    "fuzz": fuzz.page,
    "held": partial(tables.page, held=True),
    "kinds-held": kinds.page,
    "kinds-tune": kinds.page,
    "logic": logic.page,
    "maps": maps.page,
    "repair": repair.page,
    "repair-earlier": repair.table,
    "repair-few": repair.page,
    "repair-settings": repair.page,
    "transforms": transforms.page,
    "large-held": kinds.page,
    "large-tune": kinds.page,
    "small-held": kinds.page,
    "small-tune": kinds.page,
    "tune": partial(tables.page, held=False),
}
# those of the scans of all models
SCANS = (*HELD, *LOOKED)
ACROSS: dict[str, Callable[[Mapping[str, list[dict[str, Any]]]], list[str]]] = {
    "effort": effort.page,
    "joint": joint.page,
    "kinds-default": lambda parts: kinds.page(kinds.by_default(parts[effort.PART])),
    "mmbd": mmbd.page,
    "probability": probability.page,
}
# those that ask for the rows of several efforts as well
OF_EFFORTS = ("effort", "kinds-default", "probability")


def body(part: str, results: Path) -> str:
    """The tables of one part; `summary` and `missed` are drawn from those of held-out kinds, models and networks."""
    if part == "summary":
        lines = [
            *kinds.headline(by_default(results), "as a scan is by default"),
            *kinds.headline(read(results / "kinds-held.jsonl"), "with `--effort thorough`"),
            *kinds.headline(read(results / "small-held.jsonl"), "as a scan is by default", "attacks on small networks"),
            *kinds.headline(read(results / "large-held.jsonl"), "as a scan is by default", "attacks on networks for large images"),
            *tables.headline(tables.learnt(read(results / "held.jsonl"))[0], held=True),
            *repair.short(read(results / "repair.jsonl")),
        ]
    elif part == "missed":
        thorough = [row for name in ("kinds-held", "held") for row in read(results / f"{name}.jsonl")]
        known = {row["name"] for row in thorough}
        others = [row for name in ("small-held", "large-held") for row in read(results / f"{name}.jsonl")]
        default = [row for row in by_default(results) if row["name"] not in known]
        lines = tables.missed(tables.learnt([*thorough, *default, *others])[0])
    elif part in ACROSS:
        more = (effort.PART,) if part in OF_EFFORTS else ()
        lines = ACROSS[part]({name: read(results / f"{name}.jsonl") for name in (*SCANS, *more)})
    else:
        lines = BODIES[part](read(results / f"{part}.jsonl"))
    return "\n".join(lines)


def by_default(results: Path) -> list[dict[str, Any]]:
    """The scans of held kinds with the default effort."""
    return kinds.by_default(read(results / f"{effort.PART}.jsonl"))


def pages(results: Path, out: Path) -> dict[Path, str]:
    """All pages by their path: the summary at `out`, the others in a folder of its name."""
    summary, *rest = BREAK.split(TEXTS.read_text())
    texts = {out: summary} | {out.with_suffix("") / f"{part}.md": text for part, text in zip(rest[::2], rest[1::2], strict=True)}
    return {path: MARK.sub(lambda mark: body(mark[1], results), text).strip("\n") + "\n" for path, text in texts.items()}


@click.command()
@click.option("--results", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path("bench/results"), show_default=True)
@click.option("--only", type=click.Choice(sorted((*BODIES, *ACROSS))), help="Print the tables of this part.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the summary there, the others in a folder beside it.")
def main(results: Path, only: str | None, out: Path | None) -> None:
    """Print the summary of the evidence, or write all pages."""
    if only is not None:
        click.echo(body(only, results))
    elif out is None:
        summary = Path("evidence.md")
        click.echo(pages(results, summary)[summary], nl=False)
    else:
        for path, text in pages(results, out).items():
            path.parent.mkdir(exist_ok=True)
            with whole(path) as place:
                place.write_text(text)


if __name__ == "__main__":
    main()
