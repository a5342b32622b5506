"""Trains every model that the published tables need, one thread per job; a second run goes on where the first stopped.

python -m bench.zoo --data DIR --out DIR --jobs 2
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

# `tune` models may shape settings and thresholds; `held` models only ever measure them. `held` begins with the two examples.
HELD = (
    "--seed 10",
    "--attack badnets --target 14 --seed 10",
    "--attack blend --target 33 --seed 11",
    "--attack wanet --target 26 --seed 12",
    "--attack quantise --target 2 --seed 13",
    "--attack badnets --seed 14",
    "--seed 11",
    "--seed 12",
    "--seed 13",
    "--attack badnets --target 38 --seed 15",
    "--attack blend --target 1 --seed 16",
    "--seed 14",
)
TUNE = (
    "--seed 0",
    "--attack badnets --target 5 --seed 0",
    "--seed 1",
    "--attack blend --target 5 --seed 1",
    "--seed 2",
    "--attack quantise --target 9 --seed 2",
    "--attack badnets --seed 3",
    "--seed 3",
    "--attack wanet --target 7 --seed 3",
    "--attack badnets --target 20 --seed 4",
    "--seed 4",
    "--arch vgg16 --seed 0",
    "--arch vgg16 --attack badnets --target 12 --seed 1",
    "--seed 5",
    "--set cifar10 --epochs 6 --seed 0",
    "--set cifar10 --epochs 6 --attack badnets --target 3 --seed 1",
)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--jobs", default=2, show_default=True)
def main(data: Path, out: Path, jobs: int) -> None:
    """Train the zoo into OUT/tune and OUT/held."""

    def run(part: str, recipe: str) -> int:
        command = [sys.executable, "-m", "bench.train", "--data", str(data), "--out", str(out / part), *recipe.split()]
        return subprocess.run(command, check=False).returncode

    queue = [("held", recipe) for recipe in HELD] + [("tune", recipe) for recipe in TUNE]
    with ThreadPoolExecutor(jobs) as pool:
        failed = sum(map(bool, pool.map(lambda job: run(*job), queue)))
    if failed:
        raise SystemExit(f"{failed} models could not be trained")


if __name__ == "__main__":
    main()
