"""Trains every model that the published tables need, one thread per job; a second run goes on where the first stopped.

python -m bench.zoo --data DIR --out DIR --jobs 2
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from bench.zoo.lists import FEW, HELD, KIND_HELD, KIND_TUNE, PLANT, TUNE

PARTS = {"tune": TUNE, "held": HELD, "kinds-tune": KIND_TUNE, "kinds-held": KIND_HELD, "plant": PLANT, "few": FEW}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--only", type=click.Choice(list(PARTS)), help="One part of the zoo; left out: all.")
def main(data: Path, out: Path, jobs: int, only: str | None) -> None:
    """Train the zoo into OUT/tune, OUT/held, OUT/kinds-tune, OUT/kinds-held, OUT/plant and OUT/few."""

    def run(part: str, recipe: str) -> int:
        command = [sys.executable, "-m", "bench.zoo.train", "--data", str(data), "--out", str(out / part), *recipe.split()]
        return subprocess.run(command, check=False).returncode

    queue = [(part, recipe) for part, recipes in PARTS.items() if only in (None, part) for recipe in recipes]
    with ThreadPoolExecutor(jobs) as pool:
        failed = sum(map(bool, pool.map(lambda job: run(*job), queue)))
    if failed:
        raise SystemExit(f"{failed} models could not be trained")


if __name__ == "__main__":
    main()
