"""Writes the scores of clean models that banscan ships, from the rows of `bench.detect`; `make null` says from which."""

from pathlib import Path

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
    looked = [r for path in rows for r in read(path) if not r.get("part", path.stem).endswith("held")]
    clean = [r for r in looked if r["attack"] == "none" and r["settings"]["seed"] == 0]
    usable = [r for r in clean if {key: r["settings"].get(key) for key in settings} == settings]
    # as of a model that is scanned, fragile ones are not compared
    told = [(r, v) for r in usable if (v := replay.verdict(r)).outcome != FRAGILE]
    entries = tuple(Entry(r["name"], r["sha256"], Kind(**r["kind"]), round(v.score or 0.0, 6)) for r, v in told)
    images = min(r["images"] for r in usable)
    out.write_text(render(Calibration(entries, None, settings, images, version())))
    click.echo(f"{len(entries)} of {len(clean)} clean models in {out}")


if __name__ == "__main__":
    main()
