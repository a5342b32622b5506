"""What reading a model file costs beside onnxruntime's own load: seconds and peak memory, each in a process of its own.

python -m bench.cost          a network of about 100 MB, and one of more than 2 GB with its weights beside the file
"""

import platform
import subprocess
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import nn

from bench.rows import append, commit, read

RESULTS = Path("bench/results/cost.jsonl")
# width of the two hidden layers → about 100 MB in one file, and more than protobuf's 2 GB
SIZES = {"100 MB": (3600, False), "more than 2 GB": (22400, True)}
CHILD = """
import re, sys, time
import banscan.importers, onnxruntime, torch
# what getrusage says of a peak begins with the parent's
rss = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before, begin = rss(), time.perf_counter()
if sys.argv[1] == "onnxruntime":
    kept = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
else:
    kept = banscan.importers.load(sys.argv[2])
print(time.perf_counter() - begin, (rss() - before) * 1024)
"""


def write(path: Path, width: int, beside: bool) -> None:
    """A classifier with nearly all of its weights in two linear layers."""
    stem = (nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(7), nn.Flatten())
    module = nn.Sequential(*stem, nn.Linear(64 * 49, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    example = (torch.zeros(2, 3, 56, 56),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, str(path), dynamo=True, opset_version=18, dynamic_shapes=shapes, external_data=beside, verbose=False
        )


def measure(reader: str, path: Path) -> tuple[float, float]:
    """Seconds and bytes of peak memory above those of a process that has loaded its libraries."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CHILD, reader, str(path)], capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


@click.command()
@click.option("--runs", default=3, show_default=True)
@click.option("--only", default="", help="Part of a size's name.")
def main(runs: int, only: str) -> None:
    """Print and append the median seconds and the peak memory over the size of the files."""
    for name, (width, beside) in SIZES.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write(path, width, beside)
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
            results = {reader: [measure(reader, path) for _ in range(runs)] for reader in ("onnxruntime", "banscan")}
        versions = {package: metadata.version(package) for package in ("torch", "onnx", "onnxruntime")}
        row: dict[str, Any] = {
            "size": name,
            "bytes": size,
            "runs": runs,
            "commit": commit(),
            "machine": platform.machine(),
            **versions,
            "results": results,
        }
        append(RESULTS, row)
    click.echo("| file | reader | median s | range | peak memory / file |\n| --- | --- | --- | --- | --- |")
    for row in {r["size"]: r for r in read(RESULTS)}.values():
        for reader, values in row["results"].items():
            seconds, peaks = zip(*values, strict=True)
            share = max(peaks) / row["bytes"]
            spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
            click.echo(f"| {row['bytes'] / 1e6:,.0f} MB | {reader} | {median(seconds):.1f} | {spread} | {share:.1f} |")


if __name__ == "__main__":
    main()
