"""Times the stages of a scan of the backdoored example, process start included, and appends a row to bench/results/stages.jsonl.

python -m bench.stages --runs 3
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench import rows

RESULTS = Path("bench/results/stages.jsonl")
# seconds that are worth a line
SHOWN = 0.05


def timed(model: Path, images: Path, threads: int) -> tuple[float, dict[str, Any]]:
    """Wall seconds of one `banscan` process and its JSON report."""
    command = [sys.executable, "-m", "banscan", str(model), "--clean-dir", str(images), "--format", "json", "--threads", str(threads)]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise click.ClickException(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return time.perf_counter() - begin, report


@click.command()
@click.option("--model", type=click.Path(path_type=Path), default=Path("examples/backdoored.onnx"), show_default=True)
@click.option("--images", type=click.Path(path_type=Path), default=Path("examples/clean"), show_default=True)
@click.option("--runs", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(model: Path, images: Path, runs: int, threads: int) -> None:
    """Print the median, smallest and largest seconds of every stage."""
    results = [timed(model, images, threads) for _ in range(runs)]
    stages = list(results[0][1]["seconds"])
    values = {stage: [report["seconds"][stage] for _, report in results] for stage in stages}
    values["python, torch and report"] = [wall - sum(report["seconds"].values()) for wall, report in results]
    values["whole process"] = [wall for wall, _ in results]
    environment = results[0][1]["environment"]
    click.echo(f"{environment['processor']}, {threads} threads, torch {environment['torch']}, n = {runs}, commit {rows.commit()}\n")
    click.echo("| stage | median s | range |\n| --- | --- | --- |")
    for stage, seconds in values.items():
        if max(seconds) < SHOWN:
            continue
        click.echo(f"| {stage} | {median(seconds):.1f} | {min(seconds):.1f} to {max(seconds):.1f} |")
    row = {"model": str(model), "runs": runs, "commit": rows.commit(), "environment": environment, "seconds": values}
    rows.append(RESULTS, row)


if __name__ == "__main__":
    main()
