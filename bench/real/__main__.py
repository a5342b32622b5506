"""Fetches image classifiers of other people, scans them as a user would, and writes the page about it.

python -m bench.real fetch FOLDER [--repositories DIR] [--data DIR]
python -m bench.real scan FOLDER [--stage read|scan|told] [--part tune] [--minutes 30]
python -m bench.real plant FOLDER --part tune --pixels 64
python -m bench.real plant FOLDER --only digits-flat --attack badnets --target 3
python -m bench.real page --out docs/real.md
"""

from collections.abc import Callable
from fnmatch import fnmatch
from functools import wraps
from pathlib import Path
from typing import Any

import click

from banscan.errors import BanscanError
from banscan.files import whole
from bench import rows as results
from bench.real import fetch, images, plant, rows, table
from bench.real.page import page

OUT, PLANTED = Path("bench/results/real.jsonl"), Path("bench/results/planted.jsonl")
FOLDER = click.Path(path_type=Path, file_okay=False)


def stored(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the store, and the models that are asked for."""

    @click.argument("folder", type=FOLDER)
    @click.option("--repositories", type=FOLDER, help="Clones of repositories as OWNER+NAME, where they cannot be fetched.")
    @click.option("--data", type=FOLDER, help="The data sets of the zoo; CIFAR-10 is among them.")
    @click.option("--part", type=click.Choice([table.TUNE, table.HELD]), help="Of the models; all otherwise.")
    @click.option("--only", default="*", show_default=True, help="Names of models, with wildcards.")
    @wraps(command)
    def wrapped(folder: Path, repositories: Path | None, data: Path | None, part: str | None, only: str, **rest: Any) -> None:
        store = fetch.Store(folder.resolve(), repositories, data)
        command(store, tuple(m for m in table.models() if part in (None, m.part) and fnmatch(m.name, only)), **rest)

    return wrapped


@click.group()
def main() -> None:
    """Image classifiers of other people."""


@main.command(name="fetch")
@stored
def fetched(store: fetch.Store, models: tuple[table.Model, ...]) -> None:
    """Bring models and images into FOLDER; exit code 1 where some are missing."""
    there = fetch.all_of(models, store, click.echo)
    missing = len(models) - len(there)
    entries = {entry.name: entry for entry in table.images()}
    for name, labelled in sorted({(m.images, m.labelled) for m in there}):
        try:
            images.folder(entries[name], store, labelled)
        except BanscanError as error:
            click.echo(str(error))
            missing += 1
    click.echo(f"{len(there)} of {len(models)} models are there")
    if missing:
        raise SystemExit(1)


@main.command()
@stored
@click.option(
    "--stage",
    type=click.Choice(list(rows.STAGES)),
    default=rows.SCAN,
    show_default=True,
    help="How far each goes; told: the true preprocessing.",
)
@click.option("--pixels", type=int, help="Only models whose images are at most this high.")
@click.option("--minutes", default=30.0, show_default=True, help="For each model.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=OUT, show_default=True)
def scan(store: fetch.Store, models: tuple[table.Model, ...], stage: str, pixels: int | None, minutes: float, out: Path) -> None:
    """Append a row for every model that OUT does not have yet, small images first; what is not in FOLDER is told and left out."""
    done = {(r["name"], r["stage"]) for r in results.read(out)}
    todo = [m for m in models if (m.name, stage) not in done and (pixels is None or m.size[0] <= pixels)]
    if stage == rows.TOLD:
        todo = [m for m in todo if m.preprocess]
    entries = {entry.name: entry for entry in table.images()}
    for model in sorted(fetch.all_of(tuple(todo), store, click.echo), key=lambda m: m.size[0]):
        try:
            folder = images.folder(entries[model.images], store, model.labelled)
        except BanscanError as error:
            click.echo(str(error))
            continue
        row = rows.STAGES[stage](model, store.model(model), folder, minutes * 60)
        results.append(out, row)
        click.echo(f"{model.name:24s} {row['outcome']:18s} {row['seconds']:7.1f} s {row['peak_mb']:6d} MB  {row['reason']}")


@main.command(name="plant")
@stored
@click.option("--attack", help="Of the zoo; otherwise by lot.")
@click.option("--target", type=int, help="With --attack; all-to-all otherwise.")
@click.option("--draw", default=2, show_default=True, help="Attacks for each model, where they are drawn.")
@click.option("--pixels", type=int, help="Only models whose images are at most this high.")
@click.option("--minutes", default=30.0, show_default=True, help="For each scan.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=PLANTED, show_default=True)
def planted(
    store: fetch.Store,
    models: tuple[table.Model, ...],
    attack: str | None,
    target: int | None,
    draw: int,
    pixels: int | None,
    minutes: float,
    out: Path,
) -> None:
    """Plant backdoors into every model that has labels, scan what came of them, and append the rows that OUT does not have yet."""
    entries = {entry.name: entry for entry in table.images()}
    wanted = [m for m in models if m.labelled and m.preprocess and (pixels is None or m.size[0] <= pixels)]
    for model in sorted(fetch.all_of(tuple(wanted), store, click.echo), key=lambda m: m.size[0]):
        for how in (plant.Planting(attack, target),) if attack is not None else plant.drawn(model, draw):
            about = {"name": model.name, "attack": how.attack, "target": how.target, "seed": how.seed}
            if any(about.items() <= r.items() for r in results.read(out)):
                continue
            row = _planted(store, entries[model.images], model, how, minutes * 60) | about
            results.append(out, row)
            click.echo(f"{model.name:24s} {how.attack:10s} {row['outcome']:18s} {row['seconds']:7.1f} s  {row['reason']}")


def _planted(store: fetch.Store, entry: table.Images, model: table.Model, how: plant.Planting, limit: float) -> dict[str, Any]:
    """The row of one backdoor: of a scan where it works, else of what came of the planting."""
    ours, theirs = images.folder(entry, store, labelled=True), images.folder(entry, store, labelled=True, others=plant.IMAGES)
    given = store.model(model)
    file = store.folder / "planted" / f"{model.name}-{how.attack}-{'all' if how.target is None else how.target}{given.suffix}"
    file.parent.mkdir(exist_ok=True)
    none = {"part": model.part, "outcome": plant.NONE, "seconds": 0.0, "targets": []}
    if not theirs.is_dir():
        return none | {"reason": "there are no images of its kind that the defender does not have", "asr": None, "accuracies": None}
    try:
        done = plant.of_file(model, given, theirs, ours, file, how)
    except BanscanError as error:
        return none | {"reason": str(error).removeprefix(f"{given}: "), "asr": None, "accuracies": None}
    came = {"asr": done.asr, "accuracies": done.accuracy}
    if not done.works:
        before, after = done.accuracy
        return (
            none | came | {"reason": f"the trigger moves {done.asr:.0%} of the images, accuracy {before:.0%} before and {after:.0%} after"}
        )
    return rows.told(model, file, ours, limit) | came


@main.command(name="page")
@click.option("--rows", "source", type=click.Path(path_type=Path, dir_okay=False), default=OUT, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--planted", "backdoored", type=click.Path(path_type=Path, dir_okay=False), default=PLANTED, show_default=True)
def written(source: Path, backdoored: Path, out: Path) -> None:
    """Write the page from the rows."""
    with whole(out) as place:
        place.write_text(page(table.models(), table.images(), results.read(source), results.read(backdoored)))


if __name__ == "__main__":
    main()
