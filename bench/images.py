"""Writes clean images of the defender's part of a data set as class folders of PNG files.

python -m bench.images --data DIR --set cifar10 --per-class 50 --out DIR
"""

from pathlib import Path

import click
import numpy as np
from PIL import Image

from bench.zoo import data


def write(part: data.Part, out: Path, per_class: int, seed: int = 0) -> int:
    """Writes `per_class` images of every class, drawn by seed; returns how many there are in all."""
    rng = np.random.default_rng(seed)
    count = 0
    for c in np.unique(part.labels):
        folder = out / f"{c:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for i in rng.permutation(np.flatnonzero(part.labels == c))[:per_class]:
            Image.fromarray(part.images[i]).save(folder / f"{i:05d}.png", optimize=True)
            count += 1
    return count


@click.command()
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--set",
    "name",
    required=True,
    help="gtsrb, cifar10, N of their classes (gtsrbN, cifarNb), tinyimagenet, imagenetN or a folder of class folders below DATA.",
)
@click.option("--size", default=32, show_default=True, help="Of the images, where they come as files.")
@click.option("--per-class", default=10, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(folder: Path, name: str, size: int, per_class: int, out: Path) -> None:
    """Write the images."""
    try:
        part = data.load(folder, name, size).defender
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{write(part, out, per_class)} images in {out}")


if __name__ == "__main__":
    main()
