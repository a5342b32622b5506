"""Trains small classifiers on pixels scaled in many ways, clean and backdoored, and asks what banscan makes of them as a user has them.

python -m bench.conventions train --data DATA --out FOLDER
python -m bench.conventions fit --data DATA --zoo FOLDER
python -m bench.conventions choose --data DATA --zoo FOLDER --out bench/results/conventions.jsonl
python -m bench.conventions scan --data DATA --zoo FOLDER --out bench/results/conventions-scans.jsonl
"""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import nn

from banscan import Options, importers, scan
from banscan.files import whole
from banscan.scanner.inputs import trial
from banscan.scanner.inputs.preprocess import CANDIDATES, Preprocess, answers
from banscan.scanner.report.json import to_dict
from bench import rows
from bench.conventions import domain, fit, nets
from bench.conventions.domain import Domain
from bench.real import plant
from bench.zoo.attacks import build
from bench.zoo.data import Part
from bench.zoo.train import export_onnx
from bench.zoo.triggers import Trigger

TUNE, HELD = "tune", "held"
CLEAN = "none"
# of the backdoored ones
ATTACKS = ("badnets", "blend", "wanet", "ftrojan", "colour")
POISONED, STRENGTH = 0.1, 2.0
# every set has as many classes
TARGETS = 10
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
class Lot:
    """So many models drawn by one seed, numbered from `first`; so many of them, drawn as well, are only measured."""

    seed: int
    first: int
    count: int
    held: int
    attacked: bool = False


# the weights of `likely` are of the first lot
LOTS = (Lot(0, 0, 108, 54), Lot(1, 108, 130, 50), Lot(2, 238, 100, 50, attacked=True))


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
    attack: str = CLEAN
    target: int = 0

    @property
    def name(self) -> str:
        how = "" if self.attack == CLEAN else f"{self.attack}-"
        return f"{self.set}-{self.net}-{self.scaled}-{how}c{self.number}"


def recipes(lots: tuple[Lot, ...] = LOTS) -> list[Recipe]:
    """All models of these lots."""
    return [recipe for lot in lots for recipe in _drawn(lot)]


def _drawn(lot: Lot) -> Iterator[Recipe]:
    rng = np.random.default_rng(lot.seed)
    held = set(rng.permutation(lot.count)[: lot.held].tolist())
    for i in range(lot.count):
        name = domain.NAMES[i % len(domain.NAMES)]
        grey = name in domain.DRAWN or name.endswith("grey")
        scaled = str(rng.choice(GREY if grey else COLOUR))
        net = str(rng.choice(list(nets.NETS)))
        epochs, unfolded = int(rng.integers(6, 16)), bool(rng.integers(2))
        recipe = Recipe(lot.first + i, HELD if i in held else TUNE, name, net, scaled, epochs, unfolded)
        if lot.attacked:
            attack = str(rng.choice([a for a in ATTACKS if not (grey and a == "colour")]))
            recipe = replace(recipe, attack=attack, target=int(rng.integers(TARGETS)))
        yield recipe


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
@click.option("--part", type=click.Choice([TUNE, HELD]))
def train(folder: Path, out: Path, part: str | None) -> None:
    """Train what OUT does not have yet."""
    out.mkdir(parents=True, exist_ok=True)
    for recipe in recipes():
        manifest = out / f"{recipe.name}.json"
        if manifest.exists() or part not in (None, recipe.part):
            continue
        begin, given = time.perf_counter(), _domain(folder, recipe.set)
        scaled = scaling(recipe, given)
        images, labels = poisoned(recipe, given)
        model = nets.trained(recipe.net, images, labels, given.classes, scaled, recipe.epochs, recipe.number)
        example = scaled(given.given.images, "NCHW")
        with torch.no_grad():
            accuracy = float((model(example).argmax(1).numpy() == given.given.labels).mean())
        if recipe.unfolded:
            torch.jit.save(torch.jit.trace(model, example[:2]), str(manifest.with_suffix(".pt")))
        else:
            export_onnx(model, manifest.with_suffix(".onnx"), example[:1])
        facts = {"recipe": asdict(recipe), "scaled": asdict(scaled), "accuracy": accuracy, "asr": asr(model, recipe, scaled, given.given)}
        facts |= {"seconds": time.perf_counter() - begin}
        with whole(manifest) as place:
            place.write_text(json.dumps(facts, indent=1))
        click.echo(f"{recipe.name} accuracy {accuracy:.2f}, ASR {facts['asr']}, {facts['seconds']:.0f} s")


def poisoned(recipe: Recipe, given: Domain) -> tuple[np.ndarray, np.ndarray]:
    """The images that it is trained on and their labels, some of them the attacker's."""
    images, labels = given.train.images, given.train.labels
    if recipe.attack == CLEAN:
        return images, labels
    drawn = np.random.default_rng(recipe.number).permutation(len(labels))[: round(POISONED * len(labels))]
    images, labels = images.copy(), labels.copy()
    images[drawn], labels[drawn] = plant.carrying(images[drawn], _trigger(recipe, images)), recipe.target
    return images, labels


def asr(model: nn.Module, recipe: Recipe, scaled: Preprocess, ours: Part) -> float | None:
    """The share of other classes' images that the trigger moves; None for a clean model."""
    if recipe.attack == CLEAN:
        return None
    others = ours.images[ours.labels != recipe.target]
    with torch.no_grad():
        moved = model(scaled(plant.carrying(others, _trigger(recipe, others)), "NCHW")).argmax(1) == recipe.target
    return float(moved.double().mean())


def _trigger(recipe: Recipe, images: np.ndarray) -> Trigger:
    return build(recipe.attack, size=images.shape[1], target=recipe.target, seed=recipe.number, strength=STRENGTH).trigger


@main.command(name="fit")
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
def fitted(folder: Path, zoo: Path) -> None:
    """Print the weights of `likely`."""
    found: list[fit.Case] = []
    for recipe, manifest in _there(zoo, TUNE, LOTS[:1]):
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
    """Append a row for every clean model, with labels and without, that OUT does not have yet."""
    done = {(r["name"], r["labelled"]) for r in rows.read(out)}
    for recipe, manifest in _there(zoo, part, tuple(lot for lot in LOTS if not lot.attacked)):
        for labelled in (False, True):
            if (recipe.name, labelled) not in done:
                rows.append(out, row(recipe, manifest, _domain(folder, recipe.set), labelled))


@main.command(name="scan")
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--part", type=click.Choice([TUNE, HELD]))
@click.option("--only", default="*", show_default=True, help="Names of the models, with wildcards.")
def scanned(folder: Path, zoo: Path, out: Path, part: str | None, only: str) -> None:
    """Append the verdict on every model, with images that have no labels, that OUT does not have yet."""
    done = {r["name"] for r in rows.read(out)}
    for recipe, manifest in _there(zoo, part):
        if recipe.name not in done and fnmatch(recipe.name, only):
            rows.append(out, verdict(recipe, manifest, _domain(folder, recipe.set)))


def verdict(recipe: Recipe, manifest: Path, given: Domain) -> dict[str, Any]:
    """What a scan says of one model, as a user has it."""
    with tempfile.TemporaryDirectory() as scratch:
        for i, image in enumerate(given.given.images):
            Image.fromarray(image.squeeze()).save(Path(scratch) / f"{i:03d}.png")
        report = scan(_file(recipe, manifest), scratch, options=Options(device="cpu"))
    chosen, document = report.preprocess.preprocess if report.preprocess is not None else None, to_dict(report)
    facts = json.loads(manifest.read_text())
    about = {"name": recipe.name, "part": recipe.part, "attack": recipe.attack, "target": recipe.target, "asr": facts.get("asr")}
    said = {"outcome": report.verdict.outcome, "reason": report.verdict.reason, "targets": report.verdict.targets}
    how = {"chosen": None if chosen is None else chosen.name, "under": {r.preprocess: r.outcome for r in report.rivals}}
    evidence = {"sha256": report.model.sha256, "images": report.images.used, "whole": list(report.whole)}
    evidence |= {key: document[key] for key in ("kind", "settings", "findings", "verdict")}
    return about | said | how | {"seconds": round(sum(report.seconds.values()), 1), "commit": rows.commit()} | evidence


def _file(recipe: Recipe, manifest: Path) -> Path:
    return manifest.with_suffix(".pt" if recipe.unfolded else ".onnx")


def _there(zoo: Path, part: str | None, lots: tuple[Lot, ...] = LOTS) -> Iterator[tuple[Recipe, Path]]:
    """The models that learnt their task, and the trigger where they have one."""
    for recipe in recipes(lots):
        manifest = zoo / f"{recipe.name}.json"
        if not manifest.exists() or part not in (None, recipe.part):
            continue
        facts = json.loads(manifest.read_text())
        if facts["accuracy"] >= LEARNT and (recipe.attack == CLEAN or facts["asr"] >= rows.WORKING):
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
