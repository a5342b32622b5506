"""How far a model's images move along a map of its classes where only some of the classes have images, as a user may have them.

python -m bench.maps --zoo ZOO/tune --images IMAGES --out bench/results/maps.jsonl
"""

import json
import random
from pathlib import Path
from typing import Any

import click
import torch

from banscan.scanner.criteria import class_maps, noise_map, pixel_map
from banscan.scanner.machine.precision import search_dtype
from banscan.scanner.machine.progress import silent
from banscan.scanner.search.strength import strength
from banscan.scanner.settings import Settings
from banscan.scanner.subject import Subject, prepare
from bench import rows
from bench.detect import own_images
from bench.given import read
from bench.tables import header

# shares of the classes that have images
SHARES = (1.0, 0.95, 0.9, 0.75, 0.5)
DRAWS = 2


def page(results: list[dict[str, Any]]) -> list[str]:
    """Markdown: what moves along a map, by how many of the classes have images."""
    lines = header(["models", "classes with images", "n", "searches", "noise moves along a map", "one perturbation moves along a map"])
    for kind, share in sorted({(rows.attack(r), r["share"]) for r in results}, key=lambda pair: (pair[0] != "clean", -pair[1])):
        own = [r for r in results if (rows.attack(r), r["share"]) == (kind, share)]
        spans = [f"{min(r[key] for r in own):.0%} to {max(r[key] for r in own):.0%}" for key in ("noise", "pixels")]
        counted = "all" if share == 1 else f"{share:.0%}: {own[0]['with_images']} of {own[0]['classes']}"
        lines.append(f"| {kind} | {counted} | {len({r['name'] for r in own})} | {len(own)} | {spans[0]} | {spans[1]} |")
    return lines


def subject(model: Path, folder: Path, share: float, draw: int) -> Subject:
    """A model with images of a random share of its classes."""
    given = read(model, folder)
    kept = random.Random(draw).sample(range(given.model.classes), round(share * given.model.classes))
    own = torch.isin(given.labels, torch.tensor(kept))
    x = given.x[own]
    with torch.no_grad():
        logits = given.model.logits(x)
    dtype = search_dtype("auto", given.model.device)
    return prepare(given.model, given.preprocess, x, given.labels[own], logits, Settings(), dtype)


def moved(given: Subject) -> tuple[float, float]:
    """Shares of the images that noise and a perturbation move along a map, whatever the criterion's own limit of classes is."""
    eps = strength(given.neurons, given.searched, given.settings)
    along = (given.neurons.changes(noise_map.FARTHER * eps), given.pixel_changes(pixel_map.RADIUS))
    by_noise, by_pixels = (class_maps.search(given, changes, class_maps.work(given.extent, "", ""), silent)[0].moved for changes in along)
    return by_noise, by_pixels


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--only", default="*", show_default=True, help="Names of the models, with wildcards.")
@click.option("--threads", default=1, show_default=True)
def main(zoo: Path, images: Path, out: Path, only: str, threads: int) -> None:
    """Append a row for every model, share and draw that OUT does not have yet."""
    torch.set_num_threads(threads)
    done = {(r["name"], r["share"], r["draw"]) for r in rows.read(out)}
    for manifest in sorted(zoo.glob(f"{only}.json")):
        facts = json.loads(manifest.read_text())
        for share in SHARES:
            for draw in range(DRAWS if share < 1 else 1):
                if (manifest.stem, share, draw) in done:
                    continue
                given = subject(manifest.with_suffix(".onnx"), own_images(images, facts), share, draw)
                by_noise, by_pixels = moved(given)
                row = {"name": manifest.stem, "share": share, "draw": draw, "classes": given.classes}
                row |= {"attack": facts["recipe"]["attack"], "target": facts["recipe"]["target"]}
                row |= {"with_images": len(given.labels.unique()), "noise": by_noise, "pixels": by_pixels}
                rows.append(out, row)
                click.echo(json.dumps(row))
    click.echo("\n".join(page(rows.read(out))))


if __name__ == "__main__":
    main()
