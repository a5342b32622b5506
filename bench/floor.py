"""What the triggers of a zoo do to a clean model that never saw one: no repair can be asked to leave less.

A strong warp, for one, makes any model err, and now and then where the attacker wants it to.

python -m bench.floor --zoo ZOO/held --data DATA --out bench/results/floor.jsonl
"""

import json
from pathlib import Path
from typing import Any

import click
import torch

from banscan import importers
from bench import rows
from bench.repair import attempted, measured, spread, trial

CLEAN = Path(__file__).parents[1] / "examples" / "clean.onnx"


def page(results: list[dict[str, Any]]) -> list[str]:
    """Markdown: mean and spread over the triggers of an attack, and the largest."""
    groups: dict[str, list[float]] = {}
    for row in results:
        groups.setdefault(rows.attack(row["recipe"]), []).append(row["asr"])
    lines = ["| attack | triggers | ASR on a clean model | largest |", "| --- | --- | --- | --- |"]
    lines += [f"| {kind} | {len(asrs)} | {spread(asrs)} | {max(asrs):.1%} |" for kind, asrs in sorted(groups.items())]
    return lines


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option(
    "--clean", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=CLEAN, help="A clean model and its manifest."
)
@click.option("--threads", default=1, show_default=True)
def main(zoo: Path, folder: Path, out: Path, clean: Path, threads: int) -> None:
    """Append a row for every trigger on the clean model's data that OUT does not have yet, and print the table."""
    torch.set_num_threads(threads)
    done = {r["name"] for r in rows.read(out)}
    kind = json.loads(clean.with_suffix(".json").read_text())["recipe"]["set"]
    model = importers.load(clean)
    for manifest in sorted(zoo.glob("*.json")):
        facts = json.loads(manifest.read_text())
        recipe = facts["recipe"]
        if manifest.stem not in done and recipe["set"] == kind and attempted(manifest, facts):
            rows.append(
                out, {"name": manifest.stem, "recipe": recipe, "clean": clean.name, **measured(model.logits, trial(manifest, folder))}
            )
    click.echo("\n".join(page(rows.read(out))))


if __name__ == "__main__":
    main()
