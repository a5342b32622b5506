"""Many small models in one command that is killed again and again, and what is there in the end: a row in bench/results/fleet.jsonl.

python -m bench.fleet --models 200 --kills 20

The models are real and scanned for real, with the least that a scan can do: small networks, few images, one restart of two steps, no search
over pixels.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from bench import rows

RESULTS = Path("bench/results/fleet.jsonl")
CLASSES, SIZE, IMAGES = 10, 16, 100
SETTINGS = ("--restarts", "1", "--steps", "2", "--no-pixels")
# images are coloured patterns under noise, which so many steps teach to nearly every network
STEPS = 80


def patterns() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [N, H, W, 3] and their labels."""
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 256, (CLASSES, SIZE, SIZE, 3))
    labels = np.arange(IMAGES) % CLASSES
    return np.clip(bases[labels] * 0.7 + rng.normal(38, 30, (IMAGES, SIZE, SIZE, 3)), 0, 255).astype(np.uint8), labels


def write_images(images: NDArray[np.uint8], labels: NDArray[np.int64], folder: Path) -> None:
    """As class folders."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{i:03d}.png")


def write_model(images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int, path: Path) -> None:
    """Trains a network of two convolutions on pixels in [0, 1] and exports it as ONNX."""
    torch.manual_seed(seed)
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, CLASSES))
    pixels, wanted = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(labels)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(pixels), wanted).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names: dict[str, Any] = {
            "input_names": ["image"],
            "output_names": ["logits"],
            "dynamic_axes": {"image": {0: "n"}, "logits": {0: "n"}},
        }
        torch.onnx.export(net.eval(), (pixels[:2],), str(path), dynamo=False, opset_version=17, **names)


def kept(folder: Path) -> tuple[dict[str, int], int]:
    """When each result that is there was written, and how many are not whole."""
    times, broken = {}, 0
    for path in folder.glob("[0-9a-f]*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            broken += 1
        times[path.stem] = path.stat().st_mtime_ns
    return times, broken


def killed(command: list[str], place: Path, kills: int, span: float, draw: random.Random) -> dict[str, Any]:
    """Runs it, ends it by SIGKILL at moments up to `span` seconds after its start, and lets the last run finish; what was seen."""
    results = place / "banscan-results"
    seen: dict[str, int] = {}
    broken, again, done, progress = 0, 0, 0, []
    for run in range(kills + 1):
        with (place / f"out-{run}").open("w") as out:
            process = subprocess.Popen(command, cwd=place, stdout=out, stderr=subprocess.STDOUT)
            try:
                process.wait(draw.uniform(0, span) if run < kills else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
        now, half = kept(results)
        broken += half
        again += sum(now.get(digest) != when for digest, when in seen.items())
        progress.append(len(now) - len(seen))
        seen = now
        click.echo(f"run {run + 1}: {len(now)} results, {half} broken", err=True)
    return {"kills": done, "broken": broken, "again": again, "progress": progress, "code": process.returncode}


@click.command()
@click.option("--models", default=200, show_default=True)
@click.option("--kills", default=20, show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--span", default=45.0, show_default=True, help="Seconds within which a run is killed.")
@click.option("--seed", default=0, show_default=True)
def main(models: int, kills: int, jobs: int, span: float, seed: int) -> None:
    """Count the models that were lost, half-written or scanned twice."""
    torch.set_num_threads(1)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        place = Path(folder)
        images, labels = patterns()
        write_images(images, labels, place / "imgs")
        (place / "models").mkdir()
        for i in range(models):
            write_model(images, labels, i, place / "models" / f"m{i:03d}.onnx")
        click.echo(f"{models} models after {time.perf_counter() - begin:.0f} s", err=True)
        command = [sys.executable, "-m", "banscan", "scan", "models", "--clean-dir", "imgs", "--jobs", str(jobs), *SETTINGS]
        begin = time.perf_counter()
        counted = killed(command, place, kills, span, random.Random(seed))
        seconds = round(time.perf_counter() - begin, 1)
        results = place / "banscan-results"
        found = [json.loads(path.read_text()) for path in results.glob("[0-9a-f]*.json")]
        outcomes = Counter(one["report"]["verdict"]["outcome"] if one["report"] else "failed" for one in found)
        left = sum(path.suffix != ".json" for path in results.iterdir())
        shutil.rmtree(results)
    missing = models - len({one["sha256"] for one in found})
    row = {"models": models, "jobs": jobs, "span": span, "seed": seed, "commit": rows.commit(), "seconds": seconds}
    rows.append(RESULTS, row | counted | {"results": len(found), "lost": missing, "left": left, "outcomes": dict(outcomes)})
    click.echo(
        f"{models} models, killed {counted['kills']} times: {len(found)} results, {missing} lost, {counted['broken']} half-written, "
        f"{counted['again']} scanned again after they were done, {left} files left over; {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
