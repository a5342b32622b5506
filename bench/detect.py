"""Scans every model of a zoo and writes one JSON row each; a second run goes on where the first stopped.

python -m bench.detect --zoo DIR/tune --images DIR --out rows.jsonl
"""

import json
from pathlib import Path
from typing import Any

import click
import torch

from banscan.scanner.findings import Report
from banscan.scanner.report.json import to_dict
from banscan.scanner.scan import scan
from banscan.scanner.settings import Options, Settings
from bench import replay, rows


def row(manifest: Path, images: Path, settings: Settings, limit: int = 500) -> dict[str, Any]:
    """Scans one model with at most `limit` images; what is known of its attack is only copied beside the result."""
    facts = json.loads(manifest.read_text())
    images_of = own_images(images, facts)
    report = scan(manifest.with_suffix(".onnx"), images_of, settings=settings, options=Options(max_images=limit))
    document = to_dict(report)
    return {
        **about(manifest, facts),
        "sha256": report.model.sha256,
        "kind": document["kind"],
        "images": report.images.used,
        "settings": document["settings"],
        "eps": document["eps"],
        "findings": document["findings"],
        "whole": list(report.whole),
        **aside(report),
        "verdict": document["verdict"],
        "accuracy": document["accuracy"],
        "seconds": sum(report.seconds.values()),
        "environment": report.environment,
    }


def about(manifest: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """What a row says of a model beside what was measured: its name, and what is known of its attack."""
    return {
        "name": manifest.stem,
        "part": manifest.parent.name,
        "attack": facts["recipe"]["attack"],
        "target": facts["recipe"]["target"],
        **({"several": len(facts["targets"]), "targets": facts["targets"]} if "targets" in facts else {}),
        "model_accuracy": facts["accuracy"],
        "asr": facts["asr"],
    }


def own_images(images: Path, facts: dict[str, Any]) -> Path:
    """The folder of a model's data set, where there is one for each."""
    own: Path = images / facts["recipe"]["set"]
    return own if own.is_dir() else images


def aside(report: Report) -> dict[str, Any]:
    """What the verdict does not rest on: untargeted noise and the mask."""
    found = report.aside
    if found is None:
        return {}
    return {
        "untargeted": {"class": found.noise.target, "smallest_gain": found.noise.share, "accuracy": found.accuracy},
        "mask": {"alone": found.mask.share, "class": found.mask_noise.target, "gain": found.mask_noise.share},
    }


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Clean images, or one such folder per data set.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--only", default="*", show_default=True, help="Names of the models, with wildcards.")
@click.option("--seeds", default=1, show_default=True)
@click.option("--noise", default="normalised", show_default=True)
@click.option("--restarts", default=4, show_default=True)
@click.option("--effort", default="thorough", show_default=True)
@click.option("--controls/--no-controls", default=None, help="Copies of the model as controls; left out: where no such model was measured.")
@click.option("--threads", default=1, show_default=True)
def main(
    zoo: Path,
    images: Path,
    out: Path,
    only: str,
    seeds: int,
    noise: str,
    restarts: int,
    effort: str,
    controls: bool | None,
    threads: int,
) -> None:
    """Append a row for every model, seed, form of noise and effort that OUT does not have yet."""
    torch.set_num_threads(threads)
    done = {(r["name"], *(r["settings"].get(key) for key in ("seed", "noise", "effort"))) for r in rows.read(out)}
    # rows from before there were efforts
    done |= {(*key[:3], "thorough") for key in done if key[3] is None}
    for manifest in sorted(zoo.glob(f"{only}.json")):
        for seed in range(seeds):
            if (manifest.stem, seed, noise, effort) in done:
                continue
            result = row(manifest, images, Settings(noise=noise, restarts=restarts, seed=seed, effort=effort, controls=controls))
            rows.append(out, result)
            decided = replay.verdict(result)
            found = [f for f in replay.findings(result) if f.value is not None]
            click.echo(
                f"{result['name']:44s} {decided.outcome:18s} target {decided.target} by {decided.criterion} p {decided.p_value} "
                + " ".join(f"{f.criterion} {f.value:.2f}{f'@{f.classes[0]}' if f.classes else ''}" for f in found)
                + f" {result['seconds']:.0f} s"
            )


if __name__ == "__main__":
    main()
