"""Files without a backdoor, as far as anybody knows: what the checks of logic in the graph and of dormant neurons say of them.

python -m bench.clean real STORE [--part tune]                                   the classifiers of other people, see bench.real
python -m bench.clean files FOLDER... [--images DIR]                             all models in folders
"""

import time
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from banscan import importers
from banscan.errors import BanscanError
from banscan.importers.structure.finding import PROVED, SUSPICIOUS, Structure
from banscan.scanner import facts, logic
from banscan.scanner.criteria.base import Context
from banscan.scanner.criteria.dormant import DORMANT
from banscan.scanner.inputs import images as folders
from banscan.scanner.inputs import preprocess, trial
from banscan.scanner.inputs.preprocess import CANDIDATES, Preprocess
from banscan.scanner.levels import Levels
from banscan.scanner.search import dormant
from banscan.scanner.settings import Options
from bench import rows
from bench.real import fetch, images, table
from bench.real.agreement import options_of
from bench.tables import header, rate

OUT = Path("bench/results/clean.jsonl")
SUFFIXES = (".onnx", ".pt", ".pt2")
FOLDER = click.Path(path_type=Path, file_okay=False)
# images that are drawn where none go with a file, of how many patterns, and their size where the file leaves it free
DRAWN, PATTERNS, SIZE = 80, 10, 32
Row = dict[str, Any]


def measured(path: Path, place: Path | None, options: Options) -> Row:
    """What the two checks say of a file on the images of a folder; on drawn ones without a folder."""
    begin = time.perf_counter()
    try:
        model = importers.load(path, logits=options.logits)
    except BanscanError as error:
        return {"outcome": "not read", "reason": str(error).removeprefix(f"{path}: "), "seconds": time.perf_counter() - begin}
    try:
        pictures, labels = _images(model, place, options)
        if model.input.height is None or model.input.width is None:
            model = importers.load(path, (pictures.shape[1], pictures.shape[2]), options.logits)
        chosen = preprocess.given(options) or (trial.choose(model, pictures, labels).preprocess if place else CANDIDATES[0])
        begin = time.perf_counter()
        structure, _ = logic.examine(path, options.logits, pictures, model.input, chosen)
        row = _found(structure) | {"seconds": time.perf_counter() - begin}
        return row | _dormant(model, pictures, chosen)
    except BanscanError as error:
        return {"outcome": "not measured", "reason": str(error).removeprefix(f"{path}: "), "seconds": time.perf_counter() - begin}


def _images(model: importers.TracedModel, place: Path | None, options: Options) -> tuple[np.ndarray, Any]:
    """Pictures, uint8 [N, H, W, C], with their labels where there are any."""
    if place is not None:
        clean = folders.load(place, model.input, model.classes, options, known=model.class_names)
        return clean.images, clean.labels
    return drawn(model.input.height or SIZE, model.input.width or SIZE, model.input.channels)


def drawn(height: int, width: int, channels: int) -> tuple[np.ndarray, torch.Tensor]:
    """Coarse patterns with noise, uint8 [N, height, width, channels], and which of `PATTERNS` each is."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(DRAWN) % PATTERNS
    coarse = torch.nn.functional.interpolate(torch.rand(PATTERNS, channels, 6, 6, generator=draw), size=(height, width), mode="bilinear")
    x = 0.8 * coarse[labels] + 0.2 * torch.rand(DRAWN, channels, height, width, generator=draw)
    made: np.ndarray = (255 * x).round().byte().permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(made), labels


def _found(structure: Structure) -> Row:
    told = [
        {k: getattr(p, k) for k in ("operator", "tensor", "outcome", "state", "target", "moved", "changed")}
        for p in structure.places
        if p.outcome in (PROVED, SUSPICIOUS)
    ]
    outcome = PROVED if structure.proofs else SUSPICIOUS if structure.doubts else "none"
    return {"outcome": outcome, "places": len(structure.places), "told": told[:5], "not_done": structure.not_done}


def _dormant(model: importers.TracedModel, pictures: np.ndarray, chosen: Preprocess) -> Row:
    """The finding of the criterion; none where it fails."""
    x = chosen(pictures, model.input.layout)
    logits = preprocess.answers(model, chosen, pictures)
    begin = time.perf_counter()
    searched = dormant.search(model, x, logits)
    found = DORMANT.find(DORMANT, searched, Context(Levels(), torch.arange(model.classes), model.classes, 0))
    return {
        "dormant": found.exceeds,
        "dormant_class": found.classes[0] if found.exceeds else None,
        "dormant_says": found.sentence,
        "dormant_seconds": time.perf_counter() - begin,
        "size": list(x.shape[1:]),
        "classes": model.classes,
        "format": model.source.format,
    }


def page(results: list[Row]) -> list[str]:
    """Markdown: totals by source, then every file of which anything is said, then all."""
    last = {(r["source"], r["name"]): r for r in results}.values()
    lines = []
    for source in dict.fromkeys(r["source"] for r in last):
        own = [r for r in last if r["source"] == source]
        ran = [r for r in own if "dormant" in r]
        lines += [
            f"- {source}, {len(own)} files, {len(ran)} run: logic called backdoored in {rate([r['outcome'] == PROVED for r in ran])}, "
            f"suspicious in {rate([r['outcome'] == SUSPICIOUS for r in ran])}; dormant neurons called backdoored in "
            f"{rate([r['dormant'] for r in ran])}",
        ]
    lines += ["", *header(["file", "part", "images", "places", "logic", "dormant", "seconds"])]
    for row in last:
        complete = "dormant" in row
        says = row["outcome"] if complete else f"{row['outcome']}: {row['reason']}"
        if row.get("told"):
            says += " (" + ", ".join(f"{t['operator']} set to {t['state']}" for t in row["told"]) + ")"
        if row.get("not_done"):
            says += f"; not tried: {row['not_done']}"
        neurons = "–" if not complete else f"class {row['dormant_class']}" if row["dormant"] else "none"
        seconds = f"{row['seconds']:.1f} + {row['dormant_seconds']:.1f}" if complete else f"{row['seconds']:.1f}"
        cells = [row["name"], row["part"] or "–", row["images"], str(row.get("places", "–")), says, neurons, seconds]
        lines.append(f"| {' | '.join(c.replace('|', '/') for c in cells)} |")
    counts = Counter(r["commit"] for r in last)
    return [*lines, "", f"Seconds of the structure and of the dormant neurons, one thread; commits {', '.join(counts)}."] if last else lines


@click.group()
def main() -> None:
    """Checks of structure and of dormant neurons on clean files; files that OUT has a row of are left out."""


out_option = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=OUT, show_default=True)
only_option = click.option("--only", default="*", show_default=True, help="Names of files, with wildcards.")


def _append(out: Path, about: Row, path: Path, place: Path | None, options: Options) -> None:
    done = {(r["source"], r["name"]) for r in rows.read(out)}
    if (about["source"], about["name"]) in done:
        return
    row = about | measured(path, place, options)
    row |= {"commit": rows.commit(), "environment": facts.environment(torch.float32, torch.device("cpu"))}
    rows.append(out, row)
    told = "".join(f"; {t['outcome']} {t['operator']} {t['tensor']} {t['state']} → {t['target']}" for t in row.get("told", ()))
    neurons = f", dormant {row['dormant_class']}, {row['dormant_seconds']:.1f} s" if "dormant" in row else f" {row['reason']}"
    click.echo(f"{row['name']:28s} {row['outcome']:12s} {row.get('places', 0):4d} places {row['seconds']:6.1f} s{neurons}{told}")


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--repositories", type=FOLDER, help="Clones of repositories as OWNER+NAME, where they cannot be fetched.")
@click.option("--data", type=FOLDER, help="The data sets of the zoo.")
@click.option("--part", type=click.Choice([table.TUNE, table.HELD]), help="Of the models; all otherwise.")
@only_option
@out_option
def real(folder: Path, repositories: Path | None, data: Path | None, part: str | None, only: str, out: Path) -> None:
    """The classifiers of bench.real that `python -m bench.real fetch FOLDER` brought, small images first."""
    torch.set_num_threads(1)
    store = fetch.Store(folder.resolve(), repositories, data)
    wanted = tuple(m for m in table.models() if part in (None, m.part) and fnmatch(m.name, only))
    entries = {entry.name: entry for entry in table.images()}
    for model in sorted(fetch.all_of(wanted, store, click.echo), key=lambda m: m.size[0]):
        try:
            place = images.folder(entries[model.images], store, model.labelled)
        except BanscanError as error:
            click.echo(str(error))
            continue
        about = {"source": "other people", "name": model.name, "part": model.part, "images": model.images}
        _append(out, about, store.model(model), place, options_of((*model.preprocess, *model.options)))


@main.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--images", "place", type=FOLDER, help="Clean images for all of them; drawn patterns otherwise.")
@click.option("--source", default="files", show_default=True, help="What the rows call them.")
@only_option
@out_option
def files(folders: tuple[Path, ...], place: Path | None, source: str, only: str, out: Path) -> None:
    """All model files of FOLDERS."""
    torch.set_num_threads(1)
    for path in sorted(p for f in folders for p in f.iterdir() if p.suffix in SUFFIXES and fnmatch(p.stem, only)):
        about = {"source": source, "name": path.name, "part": None, "images": place.name if place else "drawn"}
        _append(out, about, path, place, Options())


if __name__ == "__main__":
    main()
