"""What the criterion *transform* measures, alone, of the models of a zoo; finished rows are not computed again.

python -m bench.transforms --zoo DIR --data DIR --out bench/results/transforms.jsonl
"""

import json
from pathlib import Path
from typing import Any

import click
import torch

from banscan import importers
from banscan.scanner.criteria.base import Context
from banscan.scanner.criteria.transform import TRANSFORM, strength
from banscan.scanner.inputs.preprocess import CANDIDATES
from banscan.scanner.levels import Levels
from banscan.scanner.search import transforms
from banscan.scanner.search.class_map import two_thirds
from banscan.scanner.search.pixel_model import pixel_model
from bench import rows
from bench.tables import header, rate
from bench.zoo import data
from bench.zoo.train import some

Row = dict[str, Any]
IMAGES = 430


def row(manifest: Path, folder: Path) -> Row:
    """One model on the defender's images."""
    facts = json.loads(manifest.read_text())
    images, labels = some(data.load(folder, facts["recipe"]["set"]).defender, IMAGES)
    model = importers.load(manifest.with_suffix(".onnx"))
    unit = next(c for c in CANDIDATES if c.name == facts["preprocess"])
    with torch.no_grad():
        before = torch.cat([model.logits(part) for part in images.split(64)]).argmax(1)
    searched = torch.arange(model.classes)
    model_of = pixel_model(model, unit, torch.float32)
    found = transforms.search(model_of, images, before, two_thirds(labels, 0), searched, seed=0, progress=lambda done: None)
    finding = TRANSFORM.find(TRANSFORM, found, Context(Levels(), searched, model.classes, 0))
    families = [{**vars(f), "strength": round(strength(f), 3)} for f in found]
    recipe = facts["recipe"]
    about = {"name": manifest.stem, "attack": recipe["attack"], "target": recipe["target"], "asr": facts["asr"]}
    called = finding.classes[0] if finding.exceeds and finding.control is None else None
    fragile = finding.exceeds and finding.control is not None
    return {**about, "called": called, "fragile": fragile, "families": families, "commit": rows.commit()}


def page(results: list[Row]) -> list[str]:
    """Clean models called backdoored, then every model with its strongest change."""
    clean = [r for r in results if r["attack"] == "none"]
    lines = [
        f"- clean models called backdoored: {rate(r['called'] is not None for r in clean)}",
        f"- clean models called fragile: {rate(r['fragile'] for r in clean)}",
    ]
    lines += ["", *header(["model", "ASR", "class in front", "strongest change", "moves", "next class", "strength", "called"])]
    for r in sorted(results, key=lambda r: (r["attack"] == "none", r["name"])):
        best = max(r["families"], key=lambda f: f["strength"], default=None)
        cells = [r["name"], "–" if r["asr"] is None else f"{r['asr']:.0%}"]
        if best is None:
            cells += ["–"] * 5
        else:
            cells += [str(best["target"]), best["family"].removeprefix("one ")]
            cells += [f"{best['hits'] / best['images']:.0%}", f"{best['rival']:.0%}", f"{best['strength']:.2f}"]
        called = r["called"]
        calm = "fragile" if r["fragile"] else "no"
        cells.append(calm if called is None else "yes" if called == r["target"] else f"yes, not {r['target']}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(zoo: Path, folder: Path, out: Path) -> None:
    """Append a row for every model that OUT does not have yet."""
    torch.set_num_threads(1)
    done = {r["name"] for r in rows.read(out)}
    for manifest in sorted(zoo.glob("*.json")):
        if manifest.stem not in done:
            made = row(manifest, folder)
            rows.append(out, made)
            click.echo(f"{made['name']}: {made['called']}")


if __name__ == "__main__":
    main()
