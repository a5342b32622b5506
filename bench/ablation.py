"""Scans some tune models under one changed setting at a time and prints what each change does; finished rows are not computed again.

python -m bench.ablation --zoo DIR/tune --images DIR --out bench/results/ablation.jsonl
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from banscan.scanner.config import Settings
from bench import rows
from bench.detect import row

MODELS = (
    "gtsrb-resnet18w16-badnets-5-s0",
    "gtsrb-resnet18w16-badnets-30-s20",
    "gtsrb-resnet18w16-blend-5-s1",
    "gtsrb-resnet18w16-bpp-36-s48",
    "gtsrb-resnet18w16-wanet-7-s40",
    "gtsrb-resnet18w16-none-s0",
    "gtsrb-resnet18w16-none-s1",
    "gtsrb-resnet18w16-none-s2",
)
DEFAULT = Settings(pixels=False)
# what is changed, and how: settings, the number of images
VARIANTS: dict[str, tuple[dict[str, Any], int]] = {
    "default": ({}, 500),
    "eps 0.1": ({"eps": 0.1}, 500),
    "eps 0.4": ({"eps": 0.4}, 500),
    "steps 4": ({"steps": 4}, 500),
    "steps 16": ({"steps": 16}, 500),
    "images of a step 16": ({"images": 16}, 500),
    "images of a step 128": ({"images": 128}, 500),
    "restarts 1": ({"restarts": 1}, 500),
    "all layers": ({"depth": 0.0}, 500),
    "deepest half": ({"depth": 0.5}, 500),
    "paper's noise": ({"noise": "paper"}, 500),
    "86 clean images": ({}, 86),
    "215 clean images": ({}, 215),
}


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--images", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--threads", default=1, show_default=True)
def main(zoo: Path, folder: Path, out: Path, threads: int) -> None:
    """Append a row for every variant and model that OUT does not have yet."""
    torch.set_num_threads(threads)
    done = {(r["variant"], r["name"]) for r in rows.read(out)}
    for variant, (changes, limit) in VARIANTS.items():
        for name in MODELS:
            if (variant, name) in done:
                continue
            result = {"variant": variant, **row(zoo / f"{name}.json", folder, replace(DEFAULT, **changes), limit)}
            rows.append(out, result)
            noise = result["verdict"]["tests"][0]
            click.echo(f"{variant:22s} {name:36s} noise {noise['statistic']:.2f}@{noise['target']} eps {result['eps']:.2f}")


if __name__ == "__main__":
    main()
