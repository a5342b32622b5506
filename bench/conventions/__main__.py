"""Trains small classifiers on pixels scaled in many ways, and asks which way banscan takes for theirs, with labels and without.

python -m bench.conventions train --data DATA --out FOLDER
python -m bench.conventions fit --data DATA --zoo FOLDER
python -m bench.conventions choose --data DATA --zoo FOLDER --out bench/results/conventions.jsonl
python -m bench.conventions scan --data DATA --zoo FOLDER --out bench/results/conventions-scans.jsonl
"""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from banscan import Options, importers, scan
from banscan.files import whole
from banscan.scanner.inputs import trial
from banscan.scanner.inputs.preprocess import CANDIDATES, Preprocess, answers
from bench import rows
from bench.conventions import domain, fit, nets
from bench.conventions.domain import Domain
from bench.zoo.train import export_onnx

COUNT = 108
TUNE, HELD = "tune", "held"
# scalings in use that banscan does not try: another is as good where the model says the same
OTHERS = (
    Preprocess("256", scale=1 / 256),
    Preprocess("127", scale=1.0, mean=(127.0,), std=(128.0,)),
)
OWN = "own"
COLOUR = ("unit", "unit", "raw", "signed", "imagenet", "imagenet", "cifar10", "clip", "centred", "caffe", "half", "256", "127", OWN)
GREY = ("unit", "unit", "raw", "signed", "mnist", "half", "127", OWN)
# a model that knows fewer of its images did not learn
LEARNT = 0.5


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a model."""

    number: int
    part: str
    set: str
    net: str
    scaled: str
    epochs: int
    unfolded: bool

    @property
    def name(self) -> str:
        return f"{self.set}-{self.net}-{self.scaled}-c{self.number}"


def recipes() -> list[Recipe]:
    """All, drawn by one seed; half of them, drawn as well, are only measured."""
    rng = np.random.default_rng(0)
    held = set(rng.permutation(COUNT)[: COUNT // 2].tolist())
    found = []
    for i in range(COUNT):
        name = domain.NAMES[i % len(domain.NAMES)]
        grey = name in domain.DRAWN or name.endswith("grey")
        scaled = str(rng.choice(GREY if grey else COLOUR))
        net = str(rng.choice(list(nets.NETS)))
        found.append(Recipe(i, HELD if i in held else TUNE, name, net, scaled, int(rng.integers(6, 16)), bool(rng.integers(2))))
    return found


def scaling(recipe: Recipe, given: Domain) -> Preprocess:
    """What its pixels are scaled by."""
    if recipe.scaled == OWN:
        pixels = given.train.images.reshape(-1, given.train.images.shape[-1]) / 255
        return Preprocess(OWN, mean=tuple(pixels.mean(0).tolist()), std=tuple(pixels.std(0).tolist()))
    return next(c for c in (*CANDIDATES, *OTHERS) if c.name == recipe.scaled)


@cache
def _domain(folder: Path, name: str) -> Domain:
    return domain.load(folder, name)


@click.group()
def main() -> None:
    """Small classifiers on pixels scaled in many ways."""
    torch.set_num_threads(1)


@main.command()
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
def train(folder: Path, out: Path) -> None:
    """Train what OUT does not have yet."""
    out.mkdir(parents=True, exist_ok=True)
    for recipe in recipes():
        manifest = out / f"{recipe.name}.json"
        if manifest.exists():
            continue
        begin, given = time.perf_counter(), _domain(folder, recipe.set)
        scaled = scaling(recipe, given)
        model = nets.trained(recipe.net, given.train.images, given.train.labels, given.classes, scaled, recipe.epochs, recipe.number)
        example = scaled(given.given.images, "NCHW")
        with torch.no_grad():
            accuracy = float((model(example).argmax(1).numpy() == given.given.labels).mean())
        if recipe.unfolded:
            torch.jit.save(torch.jit.trace(model, example[:2]), str(manifest.with_suffix(".pt")))
        else:
            export_onnx(model, manifest.with_suffix(".onnx"), example[:1])
        facts = {"recipe": asdict(recipe), "scaled": asdict(scaled), "accuracy": accuracy, "seconds": time.perf_counter() - begin}
        with whole(manifest) as place:
            place.write_text(json.dumps(facts, indent=1))
        click.echo(f"{recipe.name} accuracy {accuracy:.2f}, {facts['seconds']:.0f} s")


@main.command(name="fit")
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
def fitted(folder: Path, zoo: Path) -> None:
    """Print the weights of `likely`."""
    found: list[fit.Case] = []
    for recipe, manifest in _there(zoo, TUNE):
        given = _domain(folder, recipe.set)
        model = _model(recipe, manifest, given)
        true = answers(model, scaling(recipe, given), given.given.images).argmax(1)
        found += fit.cases(recipe.name, model, given, true)
    weights = ", ".join(f"{w:.2f}" for w in fit.fitted(found))
    click.echo(f"{len(found)} cases of {len({c.model for c in found})} models: {weights}")


@main.command()
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--part", type=click.Choice([TUNE, HELD]))
def choose(folder: Path, zoo: Path, out: Path, part: str | None) -> None:
    """Append a row for every model, with labels and without, that OUT does not have yet."""
    done = {(r["name"], r["labelled"]) for r in rows.read(out)}
    for recipe, manifest in _there(zoo, part):
        for labelled in (False, True):
            if (recipe.name, labelled) not in done:
                rows.append(out, row(recipe, manifest, _domain(folder, recipe.set), labelled))


@main.command(name="scan")
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--part", type=click.Choice([TUNE, HELD]))
def scanned(folder: Path, zoo: Path, out: Path, part: str | None) -> None:
    """Append the verdict on every model, with images that have no labels, that OUT does not have yet."""
    done = {r["name"] for r in rows.read(out)}
    for recipe, manifest in _there(zoo, part):
        if recipe.name not in done:
            rows.append(out, verdict(recipe, manifest, _domain(folder, recipe.set)))


def verdict(recipe: Recipe, manifest: Path, given: Domain) -> dict[str, Any]:
    """What a scan says of one model, as a user has it."""
    with tempfile.TemporaryDirectory() as scratch:
        for i, image in enumerate(given.given.images):
            Image.fromarray(image.squeeze()).save(Path(scratch) / f"{i:03d}.png")
        report = scan(_file(recipe, manifest), scratch, options=Options(device="cpu"))
    chosen = report.preprocess.preprocess if report.preprocess is not None else None
    row: dict[str, Any] = {"name": recipe.name, "part": recipe.part, "outcome": report.verdict.outcome, "reason": report.verdict.reason}
    row |= {"chosen": None if chosen is None else chosen.name, "under": {r.preprocess: r.outcome for r in report.rivals}}
    return row | {"targets": report.verdict.targets, "seconds": round(sum(report.seconds.values()), 1), "commit": rows.commit()}


def _file(recipe: Recipe, manifest: Path) -> Path:
    return manifest.with_suffix(".pt" if recipe.unfolded else ".onnx")


def _there(zoo: Path, part: str | None) -> Iterator[tuple[Recipe, Path]]:
    """The models that learnt their task."""
    for recipe in recipes():
        manifest = zoo / f"{recipe.name}.json"
        if manifest.exists() and part in (None, recipe.part) and json.loads(manifest.read_text())["accuracy"] >= LEARNT:
            yield recipe, manifest


def _model(recipe: Recipe, manifest: Path, given: Domain) -> importers.TracedModel:
    return importers.load(_file(recipe, manifest), given.given.images.shape[1:3])


def row(recipe: Recipe, manifest: Path, given: Domain, labelled: bool) -> dict[str, Any]:
    """What banscan takes for one model, and how often the model says the same as under the true scaling."""
    facts = json.loads(manifest.read_text())
    images, model = given.given.images, _model(recipe, manifest, given)
    true = answers(model, scaling(recipe, given), images).argmax(1)
    begin = time.perf_counter()
    try:
        tried: trial.Tried = trial.choose(model, images, torch.from_numpy(given.given.labels) if labelled else None)
    except trial.UndecidedError as error:
        tried = error.tried
    seconds = time.perf_counter() - begin
    known = {c.name: c for c in CANDIDATES if c.name in {s.name for s in tried.table}}
    same = {name: float((answers(model, c, images).argmax(1) == true).double().mean()) for name, c in known.items()}
    chosen = None if tried.preprocess is None else tried.preprocess.name
    found = {"chosen": chosen, "agreement": None if chosen is None else same[chosen], "rivals": {r: same[r] for r in tried.rivals}}
    # whether any candidate would have been right
    best = max(same.values())
    how = {"name": recipe.name, "part": recipe.part, "labelled": labelled, "accuracy": facts["accuracy"], "best": best}
    return how | found | {"reason": tried.reason, "seconds": round(seconds, 2), "commit": rows.commit()}


if __name__ == "__main__":
    main()
