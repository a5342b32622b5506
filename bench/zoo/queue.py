"""Trainings side by side, each a process of its own."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def command(recipe: str, data: Path, out: Path, *more: str) -> list[str]:
    """What trains a model; one whose manifest is there is left as it is."""
    return [sys.executable, "-m", "bench.zoo.train", "--data", str(data), "--out", str(out), *recipe.split(), *more]


def run(commands: Sequence[Sequence[str]], jobs: int) -> int:
    """Runs them, so many at a time; returns how many failed."""
    with ThreadPoolExecutor(jobs) as pool:
        return sum(pool.map(lambda words: subprocess.run(words, check=False).returncode != 0, commands))
