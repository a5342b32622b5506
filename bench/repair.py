"""Repairs the models of a zoo and tries their triggers before and after; one row per model and method.

The trigger is used to measure, never to tune: what a repair of banscan knows is the scan's own verdict. Of the baselines FeatureRE's is
told the target, as in its paper.

python -m bench.repair --zoo ZOO/held --data DATA --images IMAGES --out bench/results/repair.jsonl
python -m bench.repair ... --methods ban --vary --out bench/results/repair-settings.jsonl
"""

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import click
import torch
from torch import Tensor

from banscan import importers
from banscan.errors import BanscanError
from banscan.scanner.inputs import images as clean_images
from banscan.scanner.repair import answers
from banscan.scanner.repair.fold import every_fifth
from banscan.scanner.repair.job import preprocess_of
from banscan.scanner.repair.mend import mend
from banscan.scanner.repair.settings import METHODS, Tuning
from banscan.scanner.repair.trainable import MANY
from banscan.scanner.scan import Examined, examine, scan
from banscan.scanner.search.pixel_model import pixel_model
from banscan.scanner.settings import Options
from bench import rows
from bench.baselines.subject import Answers, Mender, Subject
from bench.detect import own_images
from bench.tables import header
from bench.zoo import data
from bench.zoo.train import Recipe, networks, planned, tensors, triggered

# their triggers are networks, which zoos of earlier versions did not keep
GENERATED = ("iad", "ssdt")
ALL = ("all", "all on which every method was tried")
MEASURED = (("ASR", "asr"), ("benign accuracy", "accuracy"))
# one setting changed at a time, as in the paper's Table 7
VARIANTS: tuple[dict[str, float], ...] = (
    {},
    {"weight": 0.2},
    {"weight": 1.0},
    {"epochs": 10},
    {"epochs": 50},
    {"lr": 0.0025},
    {"lr": 0.005},
    {"lr": 0.02},
)
CALLED = {"weight": "lambda_2", "epochs": "epochs", "lr": "learning rate"}
# goes up with every change of what the method ban does; rows keep theirs, and docs/evidence.md, *repair-earlier*, says what they were
VERSION = 4


def trial(manifest: Path, folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Test images and labels, and triggered ones with the labels that the attacker wants."""
    facts = json.loads(manifest.read_text())["recipe"]
    recipe = Recipe(**{key: value for key, value in facts.items() if key in Recipe.__dataclass_fields__ and key != "lr"})
    split = data.load(folder, recipe.set, recipe.size)
    attack = planned(recipe, split, networks(manifest))
    x, y = tensors(split.test)
    return x, y, *triggered(attack, x, y, len(split.classes))


def attempted(manifest: Path, facts: dict[str, Any]) -> bool:
    """Whether the model of a manifest, which says these facts, has a backdoor that works, and a trigger that is still known."""
    recipe = facts["recipe"]
    return rows.succeeds(recipe, facts["asr"]) and (recipe["attack"] not in GENERATED or networks(manifest).exists())


@torch.no_grad()
def right(logits: Answers, images: Tensor, labels: Tensor) -> float:
    """The share of images [N, ...] that get their label [N]."""
    predicted = torch.cat([logits(part).argmax(1).cpu() for part in images.split(MANY)])
    return float((predicted == labels).double().mean())


def measured(logits: Answers, parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, float]:
    """Benign accuracy and ASR of what answers with these logits; `parts` of `trial`."""
    x, y, attacked, aim = parts
    return {"accuracy": right(logits, x, y), "asr": right(logits, attacked, aim)}


def repaired(
    manifest: Path,
    examined: Examined,
    clean: clean_images.CleanSet,
    own: Path,
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
    method: str,
    how: Tuning,
) -> dict[str, Any]:
    """The row of one model and method: `examined` and `clean` as a repair takes them, `own` the folder of images, `parts` of `trial`."""
    report, model = examined.report, examined.model
    assert model is not None
    row: dict[str, Any] = {"name": manifest.stem, "recipe": json.loads(manifest.read_text())["recipe"], "method": method}
    row |= {"version": VERSION} if method == "ban" else {}
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "fixed.onnx"
        try:
            mended = mend(examined, clean, output, method=method, how=how, max_drop=1.0)
            after = scan(output, own).verdict if method == "ban" else None
        except BanscanError as error:
            raise click.ClickException(f"{manifest.stem}: {error}") from error
        row |= {"before": measured(model.logits, parts), "after": measured(importers.load(output).logits, parts)}
    return row | {
        "found": [report.verdict.outcome, report.verdict.target],
        "after_scan": None if after is None else [after.outcome, after.target, after.score],
        "score": report.verdict.score,
        "images": mended.tuned,
        "kept": list(mended.accuracy),
        "settings": asdict(mended.settings),
        "environment": report.environment,
    }


def by_baseline(
    manifest: Path,
    examined: Examined,
    clean: clean_images.CleanSet,
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
    method: str,
    repairing: Mender,
) -> dict[str, Any]:
    """The row of a repair of `bench.baselines`, on the CPU, with the images that a repair of banscan tunes on.

    The target is told to those that ask for one; for all-to-all attacks it is class 0, as in the paper.
    """
    recipe = json.loads(manifest.read_text())["recipe"]
    model = importers.load(manifest.with_suffix(".onnx"))
    try:
        chosen = preprocess_of(examined)
    except BanscanError as error:
        raise click.ClickException(f"{manifest.stem}: {error}") from error
    x = chosen(clean.images, model.input.layout)
    y = answers.predictions(model, {}, x) if clean.labels is None else clean.labels
    held, plain = every_fifth(y), pixel_model(model, chosen, torch.float32)
    subject = Subject(model, plain, plain.pixels(x[~held]), y[~held])
    repaired = repairing(subject, 0 if recipe["target"] is None else recipe["target"], 0)
    kept = [right(some, x[held], y[held]) for some in (model.logits, repaired)]
    row = {"name": manifest.stem, "recipe": recipe, "method": method}
    row |= {"before": measured(model.logits, parts), "after": measured(repaired, parts)}
    return row | {"images": len(subject.labels), "kept": kept, "environment": examined.report.environment}


def label(row: dict[str, Any]) -> str:
    """The method, what of its settings was changed, and its version where it is an earlier one; a baseline's name alone."""
    if row["method"] not in METHODS:
        return str(row["method"])
    usual = asdict(METHODS[row["method"]])
    changed = [f"{name} {row['settings'][key]:g}" for key, name in CALLED.items() if row["settings"][key] != usual[key]]
    version = row.get("version", VERSION)
    return ", ".join([row["method"], *changed, *([f"version {version}"] if version != VERSION else [])])


def table(results: list[dict[str, Any]]) -> list[str]:
    """Markdown: mean and spread over the models of an attack on an architecture, by method."""
    lines = header(["data and architecture", "attack", "method", "models", "benign accuracy before", "after", "ASR before", "after"])
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    names = {r["name"] for r in results}
    # with settings that were changed few were repaired
    tried = ({r["name"] for r in results if label(r) == method} for method in METHODS)
    shared = names.intersection(*filter(None, tried))
    alike = len({(rows.arch(r), rows.attack(r["recipe"])) for r in results}) == 1
    for row in results:
        compared = row["name"] in shared and len(shared) < len(names)
        sums = () if alike else ALL[: 1 + compared]
        for group in ((rows.arch(row), rows.attack(row["recipe"])), *((one, "all") for one in sums)):
            groups.setdefault((*group, label(row)), []).append(row)
    for (where, kind, method), members in sorted(groups.items(), key=lambda pair: (pair[0][0] in ALL, pair[0])):
        cells = [spread([m[when][what] for m in members]) for what in ("accuracy", "asr") for when in ("before", "after")]
        lines.append(f"| {where} | {kind} | {method} | {len(members)} | {' | '.join(cells)} |")
    return lines


def page(results: list[dict[str, Any]]) -> list[str]:
    """The table, then model by model what became of it."""
    lines = [*table(results), "", *header(["model", "method", "accuracy", "ASR", "score before", "second scan"])]
    for row in sorted(results, key=lambda r: (r["name"], label(r))):
        moved = [f"{row['before'][what]:.1%} → {row['after'][what]:.1%}" for what in ("accuracy", "asr")]
        again = row["after_scan"]
        second = "–" if again is None else again[0] if again[2] is None else f"{again[0]} (score {again[2]:.2f})"
        score = "–" if row["score"] is None else f"{row['score']:.2f}"
        lines.append(f"| {row['name']} | {label(row)} | {' | '.join(moved)} | {score} | {second} |")
    where: dict[str, set[str]] = {}
    for row in results:
        where.setdefault(row["environment"]["processor"], set()).add(row["name"])
    for processor, names in sorted(where.items()) if len(where) > 1 else ():
        lines += ["", f"Repaired on {processor}: {', '.join(sorted(names))}."]
    return lines


def short(results: list[dict[str, Any]]) -> list[str]:
    """One line for every method with its usual settings, over all models that it was tried on."""
    lines = []
    for method in METHODS:
        own = [r for r in results if label(r) == method]
        if own:
            moved = [f"{what} {' to '.join(spread([r[when][key] for r in own]) for when in ('before', 'after'))}" for what, key in MEASURED]
            lines.append(f"- repaired by *{method}*, {len(own)} models: {', '.join(moved)}")
    return lines


def spread(values: list[float]) -> str:
    """Mean and standard deviation of shares, in percent."""
    return f"{mean(values):.1%}" + (f" ± {100 * pstdev(values):.1f}" if len(values) > 1 else "")


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="The defender's clean images.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--only", default="*", show_default=True, help="Names of the models, with wildcards.")
@click.option("--methods", default=",".join(METHODS), show_default=True)
@click.option("--vary", is_flag=True, help="The method ban also with one of its settings changed (VARIANTS).")
@click.option("--threads", default=1, show_default=True)
def main(zoo: Path, folder: Path, images: Path, out: Path, only: str, methods: str, vary: bool, threads: int) -> None:
    """Append a row for every backdoored model and method that OUT does not have yet, and print the table."""
    torch.set_num_threads(threads)
    done = {(r["name"], label(r)) for r in rows.read(out)}
    wanted: list[tuple[str, Tuning]] = [
        (method, replace(METHODS[method], **changes))  # type: ignore[arg-type]
        for method in methods.split(",")
        for changes in (VARIANTS if vary and method == "ban" else VARIANTS[:1])
    ]
    for manifest in sorted(zoo.glob(f"{only}.json")):
        facts = json.loads(manifest.read_text())
        left = [(m, how) for m, how in wanted if (manifest.stem, label({"method": m, "settings": asdict(how)})) not in done]
        if not left or not attempted(manifest, facts):
            continue
        parts = trial(manifest, folder)
        own = own_images(images, facts)
        examined = examine(manifest.with_suffix(".onnx"), own)
        model = examined.model
        assert model is not None
        clean = clean_images.load(own, model.input, model.classes, Options(max_images=5000))
        for method, how in left:
            row = repaired(manifest, examined, clean, own, parts, method, how)
            rows.append(out, row)
            click.echo(f"{row['name']} {label(row)}: {row['before']} {row['after']} {row['after_scan']}", err=True)
    click.echo("\n".join(table(rows.read(out))))


if __name__ == "__main__":
    main()
