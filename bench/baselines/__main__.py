"""Runs the baselines over a zoo and writes one JSON row per model and method; a second run goes on where the first stopped.

python -m bench.baselines --zoo DIR/held --images DIR --out rows.jsonl
python -m bench.baselines --zoo examples --images examples/clean --out rows.jsonl --method FeatureRE
"""

import json
import time
from pathlib import Path

import click
import torch

from banscan.scanner.machine.precision import search_dtype
from banscan.scanner.search.pixel_model import pixel_model
from bench import rows
from bench.baselines import BASELINES, QUICK, SCALES, SLOW
from bench.baselines.subject import Subject
from bench.detect import own_images
from bench.given import read


def subject(path: Path, folder: Path) -> Subject:
    """A model of the zoo with the images that the scanner would see."""
    given = read(path, folder)
    plain = pixel_model(given.model, given.preprocess, search_dtype("auto", given.model.device))
    return Subject(given.model, plain, plain.pixels(given.x), given.labels)


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--images", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--only", default="*", show_default=True, help="Names of the models, with wildcards.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(list(BASELINES)),
    default=QUICK,
    help=f"One or several; left out: all but {' and '.join(SLOW)}, which take more than a few minutes a model and are run where named.",
)
@click.option(
    "--scale", type=click.Choice(list(SCALES)), default="small", show_default=True, help="full: all steps of the papers, for a GPU."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(zoo: Path, folder: Path, out: Path, only: str, methods: tuple[str, ...], scale: str, seed: int, threads: int) -> None:
    """Append a row for every model and method that OUT does not have yet."""
    torch.set_num_threads(threads)
    # rows from before there were scales
    done = {(r["name"], r["method"], r["seed"], r.get("scale", "small")) for r in rows.read(out)}
    for manifest in sorted(zoo.glob(f"{only}.json")):
        facts = json.loads(manifest.read_text())
        wanted = [m for m in methods if (manifest.stem, m, seed, scale) not in done]
        if not wanted:
            continue
        given = subject(manifest.with_suffix(".onnx"), own_images(folder, facts))
        for method in wanted:
            begin, used = time.perf_counter(), time.process_time()
            found = SCALES[scale][method](given, seed)
            row = {
                "name": manifest.stem,
                "attack": facts["recipe"]["attack"],
                "target": facts["recipe"]["target"],
                "asr": facts["asr"],
                "method": method,
                "scale": scale,
                "seed": seed,
                "found": found.target,
                "statistic": found.statistic,
                "flagged": found.flagged,
                "seconds": time.perf_counter() - begin,
                "cpu_seconds": time.process_time() - used,
            }
            rows.append(out, row)
            click.echo(f"{row['name']:44s} {method:13s} class {found.target} {found.statistic:.2f} {found.flagged} {row['seconds']:.0f} s")


if __name__ == "__main__":
    main()
