"""Scans every model of a zoo and writes one JSON row each; a second run goes on where the first stopped.

python -m bench.detect --zoo DIR/tune --images DIR --out rows.jsonl
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from banscan.scanner.pixel_evidence import PixelEvidence

from banscan.scanner.calibration import kind_of
from banscan.scanner.report.json import to_dict
from banscan.scanner.scan import Report, scan
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.settings import Settings
from banscan.scanner.verdict import statistics
from bench import rows


def row(manifest: Path, images: Path, settings: Settings, limit: int = 500) -> dict[str, Any]:
    """Scans one model with at most `limit` images; what is known of its attack is only copied beside the result."""
    facts = json.loads(manifest.read_text())
    found = scan(manifest.with_suffix(".onnx"), own_images(images, facts), settings=settings, limit=limit)
    report = to_dict(found)
    return {
        "name": manifest.stem,
        "attack": facts["recipe"]["attack"],
        "target": facts["recipe"]["target"],
        **({"several": len(facts["targets"]), "targets": facts["targets"]} if "targets" in facts else {}),
        "model_accuracy": facts["accuracy"],
        "asr": facts["asr"],
        "sha256": report["model"]["sha256"],
        "kind": asdict(kind_of(found.model, found.clean)),
        "images": report["images"]["used"],
        "settings": report["settings"],
        **aside(found),
        "verdict": report["verdict"],
        "accuracy": report["accuracy"],
        "seconds": sum(report["seconds"].values()),
        "environment": report["environment"],
    }


def own_images(images: Path, facts: dict[str, Any]) -> Path:
    """The folder of a model's data set, where there is one for each."""
    own: Path = images / facts["recipe"]["set"]
    return own if own.is_dir() else images


def aside(report: Report) -> dict[str, Any]:
    """What the verdict does not rest on, or shows only when it decides: untargeted noise, the mask, the test for a one-to-one map."""
    if report.evidence is None or report.mask is None:
        return {"eps": None}
    evidence, mask = report.evidence, report.mask
    gain = (evidence.noisy_shares - evidence.clean_shares).min(0).values
    with_mask = mask.with_noise - mask.alone
    return {
        "eps": evidence.eps,
        "untargeted": {
            "class": int(gain.argmax()),
            "smallest_gain": float(gain.max()),
            "accuracy": float(evidence.noisy_accuracy.mean()),
        },
        "values": {name: [round(float(v), 4) for v in rows.mean(0)] for name, rows in statistics(evidence, report.pixels).items()},
        "mask": {
            "alone": float(mask.alone.max()),
            "class": int(with_mask.argmax()),
            "gain": float(with_mask.max()),
        },
        "patched": None if report.pixels is None else _patched(report.pixels),
        "map": _map(None if report.pixels is None else report.pixels.mapped),
        "noise map": _map(evidence.mapped),
    }


def _patched(pixels: PixelEvidence) -> dict[str, Any]:
    """What the best patch of every class does, to be judged anew with other limits."""
    return {"moved": [round(float(v), 4) for v in pixels.patch_moved], "images": pixels.patch_images}


def _map(mapped: Mapped | None) -> dict[str, float] | None:
    """What is known of a map; `next` is how much of it is the usual attack, y to y + 1."""
    if mapped is None:
        return None
    count = len(mapped.attacked)
    following = sum(a == (c + 1) % count for c, a in enumerate(mapped.attacked)) / count
    return {"moved": mapped.moved, "mutual": mapped.mutual, "next": following}


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
@click.option("--threads", default=1, show_default=True)
def main(zoo: Path, images: Path, out: Path, only: str, seeds: int, noise: str, restarts: int, threads: int) -> None:
    """Append a row for every model, seed and form of noise that OUT does not have yet."""
    torch.set_num_threads(threads)
    done = {(r["name"], r["settings"]["seed"], r["settings"]["noise"]) for r in rows.read(out)}
    for manifest in sorted(zoo.glob(f"{only}.json")):
        for seed in range(seeds):
            if (manifest.stem, seed, noise) in done:
                continue
            result = row(manifest, images, Settings(noise=noise, restarts=restarts, seed=seed))
            rows.append(out, result)
            verdict = result["verdict"]
            click.echo(
                f"{result['name']:44s} {verdict['outcome']:18s} target {verdict['target']} by {verdict['test']} p {verdict['p_value']} "
                + " ".join(f"{t['name']} {t['statistic']:.2f}@{t['target']}" for t in verdict["tests"])
                + f" map {(result.get('map') or {}).get('moved')} {result['seconds']:.0f} s"
            )


if __name__ == "__main__":
    main()
