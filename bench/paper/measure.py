"""Scans, baselines, repairs and what figures show of the paper's models, a row each; a second run goes on where the first stopped."""

import json
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch

from banscan.scanner.inputs import images as clean_images
from banscan.scanner.repair.settings import METHODS
from banscan.scanner.scan import Examined, examine
from banscan.scanner.settings import Options, Settings
from bench import detect, images, repair, rows
from bench.baselines import REPAIRS, SCALES
from bench.baselines.__main__ import subject as of_baseline
from bench.baselines.subject import Baseline
from bench.paper import noise, recipes
from bench.zoo import data

RESULTS = Path("bench/results/paper.jsonl")
SCAN, BASELINE, REPAIR, NOISE, MASK, FEATURES = WHAT = ("scan", "baseline", "repair", "noise", "mask", "features")
# what needs no images but those of a scan, and no triggers
FIGURES = (NOISE, MASK, FEATURES)
# clean images a class: 1 % of the training images to detect with and 5 % to repair with, as in the paper
DETECT = {"cifar10": 50, "gtsrb": 9, "tinyimagenet": 5, "imagenet200": 13}
MEND = {"cifar10": 250, "gtsrb": 46, "tinyimagenet": 25, "imagenet200": 65}
Job = tuple[dict[str, Any], Callable[[], dict[str, Any]]]


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is of: a second one alike is not measured."""
    settings = row.get("settings", {})
    form = row.get("form", settings.get("noise"))
    return row["what"], row["name"], row.get("method"), form, row.get("eps_asked"), row.get("scale", "small")


def jobs(manifest: Path, folder: Path | None, given: Path, what: tuple[str, ...], scale: str = "small") -> Iterator[Job]:
    """What can be measured of a model: the beginning of its row, by which it is known, and what measures the rest."""
    facts = json.loads(manifest.read_text())
    recipe = facts["recipe"]
    path, own = manifest.with_suffix(".onnx"), detect.own_images(given / "detect", facts)
    base = {"name": manifest.stem, "recipe": recipe, "asr": facts["asr"], "model_accuracy": facts["accuracy"]}
    if SCAN in what:
        for form in noise.FORMS:
            settings = Settings(noise=form, effort="thorough")
            yield base | {"what": SCAN, "form": form}, lambda s=settings: detect.row(manifest, own, s, 5000)  # type: ignore[misc]
    if BASELINE in what:
        aims = {"attack": recipe["attack"], "target": recipe["target"], "seed": 0, "scale": scale}
        for method, find in SCALES[scale].items():
            yield base | aims | {"what": BASELINE, "method": method}, lambda f=find: _baseline(path, own, f)  # type: ignore[misc]
    if REPAIR in what and repair.attempted(manifest, facts):
        for method in METHODS:
            yield base | {"what": REPAIR, "method": method}, lambda m=method: _repair(manifest, folder, given, m)  # type: ignore[misc]
        for method in REPAIRS[scale]:
            begin = base | {"what": REPAIR, "method": method, "scale": scale}
            yield begin, lambda m=method: _repair(manifest, folder, given, m, scale)  # type: ignore[misc]
    eps = noise.EPS.get(recipe["set"], 0.3)
    if MASK in what:
        yield base | {"what": MASK}, lambda: noise.losses(noise.subject(path, own, "paper"))
    for share, form in product(noise.GROWING, noise.FORMS):
        some = round(share * eps, 4)
        begin = base | {"form": form, "eps_asked": some, "steps": noise.STEPS}
        if NOISE in what and some:
            yield begin | {"what": NOISE}, lambda f=form, e=some: noise.accuracy(noise.subject(path, own, f), e)  # type: ignore[misc]
        if FEATURES in what and form == "paper":
            yield begin | {"what": FEATURES}, lambda f=form, e=some: noise.features(noise.subject(path, own, f), e)  # type: ignore[misc]


def _baseline(path: Path, own: Path, find: Baseline) -> dict[str, Any]:
    given = of_baseline(path, own)
    begin = time.perf_counter()
    found = find(given, 0)
    seconds = time.perf_counter() - begin
    return {"found": found.target, "statistic": found.statistic, "flagged": found.flagged, "seconds": seconds}


# of the model before, by all methods
@lru_cache(maxsize=1)
def _examined(path: Path, own: Path) -> Examined:
    return examine(path, own)


def _repair(manifest: Path, folder: Path | None, given: Path, method: str, scale: str = "small") -> dict[str, Any]:
    if folder is None:
        raise click.UsageError("repairs are measured with the triggers; name the data with --data, or leave repairs out with --what")
    own = detect.own_images(given / "repair", json.loads(manifest.read_text()))
    examined = _examined(manifest.with_suffix(".onnx"), own)
    if examined.model is None:
        raise click.ClickException(f"{manifest.stem}: cannot be read; expected a model of the zoo")
    clean = clean_images.load(own, examined.model.input, examined.model.classes, Options(max_images=20000))
    parts = repair.trial(manifest, folder)
    if method in METHODS:
        return repair.repaired(manifest, examined, clean, own, parts, method, METHODS[method])
    return repair.by_baseline(manifest, examined, clean, parts, method, REPAIRS[scale][method])


def _write_images(folder: Path | None, given: Path, sets: set[str], what: tuple[str, ...]) -> None:
    """The defender's images of every data set, where they are not there yet."""
    parts = [("detect", DETECT), *([("repair", MEND)] if REPAIR in what else [])]
    for name in sorted(sets):
        for part, counts in parts:
            if (given / part / name).is_dir():
                continue
            if folder is None:
                raise click.UsageError(f"{given / part / name} is missing; expected clean images in class folders, or --data to write them")
            try:
                split = data.load(folder, name, recipes.SIZES.get(name, 32))
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            images.write(split.defender, given / part / name, counts.get(name, 10))


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Unpacked data sets.")
@click.option(
    "--images", "given", type=click.Path(path_type=Path), help="DETECT/SET and REPAIR/SET, written where missing; left out: ZOO/images."
)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--what", multiple=True, type=click.Choice(WHAT), default=WHAT, show_default=True)
@click.option("--only", default="*", show_default=True, help="Names of the models, with wildcards.")
@click.option(
    "--scale",
    type=click.Choice(list(SCALES)),
    default="small",
    show_default=True,
    help="Of baselines and their repairs; full: all steps of the papers.",
)
@click.option("--threads", default=1, show_default=True)
def command(
    zoo: Path, folder: Path | None, given: Path | None, out: Path, what: tuple[str, ...], only: str, scale: str, threads: int
) -> None:
    """Append a row for everything that OUT does not have yet."""
    torch.set_num_threads(threads)
    given = given or zoo / "images"
    manifests = sorted(zoo.glob(f"{only}.json"))
    if not manifests:
        raise click.UsageError(f"{zoo} has no models that match {only}; expected manifests, which python -m bench.paper zoo writes")
    if FEATURES in what and find_spec("sklearn") is None:
        click.echo("Figure 1 is left out: its t-SNE needs scikit-learn; pip install 'banscan[paper]'.", err=True)
        what = tuple(w for w in what if w != FEATURES)
    _write_images(folder, given, {json.loads(m.read_text())["recipe"]["set"] for m in manifests}, what)
    done = {key(row) for row in rows.read(out)}
    for manifest in manifests:
        for begin, finish in jobs(manifest, folder, given, what, scale):
            if key(begin) in done:
                continue
            started = time.perf_counter()
            # what a row begins with is by what it is known again
            row = finish() | begin
            rows.append(out, row if "seconds" in row else row | {"seconds": round(time.perf_counter() - started, 1)})
            click.echo(f"{row['name']:44s} {' '.join(str(part) for part in key(row)[::2] if part is not None)}", err=True)
