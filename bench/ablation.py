"""Scans some tune models under one changed setting at a time and prints what each change does; finished rows are not computed again.

python -m bench.ablation --zoo DIR/tune --images DIR --out bench/results/ablation.jsonl
"""

import json
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import click
import torch

from banscan.scanner.criteria.outlier import finest, outlier
from banscan.scanner.settings import Settings
from bench import replay, rows
from bench.detect import own_images, row
from bench.tables import alone, finding, gaining, header

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


@dataclass(frozen=True)
class Variant:
    """What is changed of a scan: settings, how many images it gets, and whether it gets their labels."""

    changes: dict[str, Any] = field(default_factory=dict)
    limit: int = 500
    labelled: bool = True


VARIANTS = {
    "default": Variant(),
    "eps 0.1": Variant({"eps": 0.1}),
    "eps 0.4": Variant({"eps": 0.4}),
    "steps 4": Variant({"steps": 4}),
    "steps 16": Variant({"steps": 16}),
    "images of a step 16": Variant({"images": 16}),
    "images of a step 128": Variant({"images": 128}),
    "restarts 1": Variant({"restarts": 1}),
    "paper's noise": Variant({"noise": "paper"}),
    "50 clean images": Variant(limit=50),
    "86 clean images": Variant(limit=86),
    "215 clean images": Variant(limit=215),
    "without labels": Variant(labelled=False),
    "deepest half": Variant({"depth": 0.5}),
    "all layers": Variant({"depth": 0.0}),
}


def flat(folder: Path, place: Path) -> Path:
    """A copy of the images of class folders without these."""
    for image in sorted(folder.rglob("*.*")):
        shutil.copy(image, place / f"{image.parent.name}-{image.name}")
    return place


def page(results: list[dict[str, Any]]) -> list[str]:
    """Markdown: what the variants do to the noise test, over the models of MODELS."""
    columns = [
        "changed",
        "target leads",
        "statistic of the target, mean (smallest)",
        "largest clean statistic",
        "target leads: untargeted",
        "noise and mask",
        "strength, mean",
        "median class reached, mean",
        "largest share along a map",
        "seconds a scan",
        "inconclusive",
    ]
    lines = header(columns)
    count = Counter(r["variant"] for r in results)
    for variant in count:
        if count[variant] < max(count.values()):
            continue  # a row of its own tells nothing beside the others' means
        # a scan that stops before the tests has no statistic
        own = [r for r in results if r["variant"] == variant and r["verdict"]["score"] is not None]
        if {r["attack"] == "none" for r in own} != {True, False}:
            lines.append(f"| {variant} |" + " – |" * (len(columns) - 2) + f" {count[variant] - len(own)} |")
            continue
        attacked = [r for r in own if r["attack"] != "none"]
        clean = [alone(r, "noise")[0] for r in own if r["attack"] == "none"]
        aimed = [_noise(r)[r["target"]] for r in attacked]
        leads = sum(alone(r, "noise")[1] == r["target"] for r in attacked)
        shares = [f.value for f in (finding(r, "noise map") for r in own) if f is not None and f.value is not None]
        reached = mean(float(_values(r).median().sigmoid()) for r in own)
        along = f"{max(shares):.0%}" if shares else "–"
        lines.append(
            f"| {variant} | {leads} of {len(attacked)} | {mean(aimed):.1f} ({min(aimed):.1f}) | {max(clean):.1f} (n = {len(clean)}) | "
            f"{gaining(attacked, 'untargeted')} | {gaining(attacked, 'mask')} | "
            f"{mean(r['eps'] for r in own):.2f} | {reached:.0%} | {along} | {mean(r['seconds'] for r in own):.0f} | "
            f"{count[variant] - len(own)} |"
        )
    missing = [v for v in VARIANTS if count[v] < max(count.values())]
    return lines + (["", f"Not computed on all of these models yet: {', '.join(missing)}."] if missing else [])


def _noise(row: dict[str, Any]) -> list[float]:
    """The outlier statistic of every class in the noise test."""
    values = _values(row)
    each: list[float] = outlier(values, finest(values)).tolist()
    return each


def _values(row: dict[str, Any]) -> torch.Tensor:
    """What the noise test compared: log-odds of a share for every class."""
    own = finding(row, "noise")
    return torch.tensor([] if own is None else own.values)


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--images", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--threads", default=1, show_default=True)
def main(zoo: Path, folder: Path, out: Path, threads: int) -> None:
    """Append a row for every variant and model that OUT does not have yet."""
    torch.set_num_threads(threads)
    done = {(r["variant"], r["name"]) for r in rows.read(out)}
    manifests = {name: zoo / f"{name}.json" for name in MODELS}
    for name in [name for name, manifest in manifests.items() if not manifest.exists()]:
        click.echo(f"{manifests.pop(name)}: not trained", err=True)
    for called, variant in VARIANTS.items():
        for name, manifest in manifests.items():
            if (called, name) in done:
                continue
            with tempfile.TemporaryDirectory() as place:
                own = own_images(folder, json.loads(manifest.read_text()))
                own = own if variant.labelled else flat(own, Path(place))
                result = {"variant": called, **row(manifest, own, replace(DEFAULT, **variant.changes), variant.limit)}
            rows.append(out, result)
            decided, noise = replay.verdict(result), finding(result, "noise")
            seen = decided.reason if noise is None else f"noise {noise.value:.2f}@{noise.classes[0]}"
            click.echo(f"{called:22s} {name:36s} {decided.outcome} {seen}")


if __name__ == "__main__":
    main()
