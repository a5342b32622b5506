"""What copies of a model say where banscan's own clean models are left out, as for a kind of model that nobody measured.

python -m bench.controls --zoo ZOO/kinds-held --images IMAGES --out bench/results/controls.jsonl
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from banscan.scanner import verdict
from banscan.scanner.findings import Controls, Copy, Verdict
from banscan.scanner.levels import Levels
from banscan.scanner.report.json import made, plain
from banscan.scanner.scan import scan
from banscan.scanner.settings import Options, Settings
from bench import rows
from bench.detect import about, own_images
from bench.tables import header, rate, right, works

Row = dict[str, Any]
UNMEASURED = Levels(uncovered="its kind counts as one that nobody measured")
TRIGGERS = ("patch", "blend", "warp", "colour")


def page(results: list[Row]) -> list[str]:
    """Markdown: what the verdicts are by copies alone, what was found of what was planted, and the models one by one."""
    backdoored, clean = [r for r in results if works(r)], [r for r in results if r["attack"] == "none"]
    others = ("no backdoor found", "fragile", "suspicious", "inconclusive")
    lines = header(["models", "n", "called backdoored, with the right target", *others])
    for what, own in (("with an attack that works", backdoored), ("clean", clean)):
        called = rate(right(r, _decided(r)) if own is backdoored else _decided(r).outcome == "backdoored" for r in own)
        counts = [str(sum(_decided(r).outcome == o for r in own)) for o in others]
        lines.append(f"| {what} | {len(own)} | {called} | {' | '.join(counts)} |")
    lines += ["", *header(["planted into copies", "works", "found by a first look, right target"])]
    for trigger in TRIGGERS:
        planted = [c for r in results for c in _controls(r).copies if c.trigger == trigger]
        lines.append(f"| {trigger} | {rate(c.planted for c in planted)} | {rate(c.found for c in planted if c.planted)} |")
    tuned = [c for r in clean for c in _controls(r).clean]
    lines += ["", f"Tuned copies of clean models that look backdoored: {rate(c.outcome == 'backdoored' for c in tuned)}.", ""]
    lines += header(["model", "attack", "ASR", "a first look", "by copies alone", "planted ones found", "seconds of the copies"])
    for row in sorted(results, key=lambda r: r["name"]):
        asr = "–" if row["asr"] is None else f"{row['asr']:.2f}"
        first, decided, controls = made(Verdict, row["verdict"]), _decided(row), _controls(row)
        told = [", ".join((v.outcome, *map(str, v.targets))) for v in (first, decided)]
        found = f"{len(controls.found)} of {len(controls.backdoored)}"
        lines.append(f"| {row['name']} | {rows.attack(row)} | {asr} | {' | '.join(told)} | {found} | {row['seconds']:.0f} |")
    return lines


def _controls(row: Row) -> Controls:
    return Controls(tuple(made(Copy, copy) for copy in row["copies"]))


def _decided(row: Row) -> Verdict:
    """The verdict as if no clean model stood for this one."""
    return verdict.by_controls(made(Verdict, row["verdict"]), UNMEASURED, _controls(row))


def measured(manifest: Path, images: Path) -> Row:
    """A first look at one model and at its copies; what is known of its attack is only copied beside the result."""
    facts = json.loads(manifest.read_text())
    how = Settings(effort="quick", controls=True)
    report = scan(manifest.with_suffix(".onnx"), own_images(images, facts), settings=how, options=Options(max_images=500))
    assert report.controls is not None  # they were asked for
    return {
        **about(manifest, facts),
        "verdict": plain(asdict(report.verdict)),
        "copies": [plain(asdict(copy)) for copy in report.controls.copies],
        "seconds": report.seconds["controls"],
        "commit": rows.commit(),
        "environment": report.environment,
    }


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--only", default="*", show_default=True, help="Names of the models, with wildcards.")
@click.option("--threads", default=1, show_default=True)
def main(zoo: Path, images: Path, out: Path, only: str, threads: int) -> None:
    """Append a row for every model that OUT does not have yet."""
    torch.set_num_threads(threads)
    done = {row["name"] for row in rows.read(out)}
    for manifest in sorted(zoo.glob(f"{only}.json")):
        if manifest.stem not in done:
            row = measured(manifest, images)
            rows.append(out, row)
            click.echo(f"{row['name']:44s} {_decided(row).outcome}; {verdict.told_of(_controls(row))}; {row['seconds']:.0f} s")


if __name__ == "__main__":
    main()
