"""Writes the scores of clean models that banscan ships, from rows of scans; `make null` says from which."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from banscan.scanner.calibration import Calibration, Entry, decisive, render, version
from banscan.scanner.findings import FRAGILE, Kind
from banscan.scanner.settings import Settings
from bench import replay
from bench.rows import read


@click.command()
@click.argument("rows", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(rows: tuple[Path, ...], out: Path) -> None:
    """Take the clean models among ROWS that may be looked at and were scanned with the default settings."""
    settings = decisive(Settings())
    usable = clean(rows)
    # as of a model that is scanned, fragile ones are not compared, nor those that were not searched
    told = [(r, v.score) for r in usable if (v := replay.verdict(r)).outcome != FRAGILE and v.score is not None]
    entries = tuple(Entry(r["name"], r["sha256"], Kind(**r["kind"]), round(score, 6)) for r, score in told)
    images = min(r["images"] for r, _ in told)
    out.write_text(render(Calibration(entries, None, settings, images, version())))
    click.echo(f"{len(entries)} of {len(usable)} clean models in {out}")


def clean(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of clean models that may be looked at, scanned with the default settings."""
    settings = decisive(Settings())
    looked = [r for path in paths for r in read(path) if not r.get("part", path.stem).endswith("held")]
    own = [r for r in looked if r["attack"] == "none" and r.get("settings", {}).get("seed") == 0]
    return [r for r in own if {key: r["settings"].get(key) for key in settings} == settings]


if __name__ == "__main__":
    main()
