"""Trains every model that the published tables need, one thread per job; a second run goes on where the first stopped.

python -m bench.zoo --data DIR --out DIR --jobs 2
"""

from pathlib import Path

import click

from bench.zoo import queue
from bench.zoo.lists import FEW, FEW_TUNE, HELD, KIND_HELD, KIND_TUNE, LARGE_HELD, LARGE_TUNE, PLANT, SMALL_HELD, SMALL_TUNE, TUNE

PARTS = {
    "tune": TUNE,
    "held": HELD,
    "kinds-tune": KIND_TUNE,
    "kinds-held": KIND_HELD,
    "plant": PLANT,
    "few": FEW,
    "few-tune": FEW_TUNE,
    "small-tune": SMALL_TUNE,
    "small-held": SMALL_HELD,
    "large-tune": LARGE_TUNE,
    "large-held": LARGE_HELD,
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--only", type=click.Choice(list(PARTS)), help="One part of the zoo; left out: all.")
def main(data: Path, out: Path, jobs: int, only: str | None) -> None:
    """Train the zoo into folders of OUT, one for each part.

    The parts for large images need two folders of class folders in DATA: clothes, which is train, validation and test of the repository
    alexeygrigorev/clothing-dataset-small (CC0) put together, and hands, the folder Dataset of ardamavi/Sign-Language-Digits-Dataset
    (Apache 2.0).
    """
    wanted = [(part, recipe) for part, recipes in PARTS.items() if only in (None, part) for recipe in recipes]
    failed = queue.run([queue.command(recipe, data, out / part) for part, recipe in wanted], jobs)
    if failed:
        raise SystemExit(f"{failed} models could not be trained")


if __name__ == "__main__":
    main()
