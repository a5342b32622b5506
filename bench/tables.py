"""Prints the rows of `bench.detect` as a Markdown table with its totals.

python -m bench.tables bench/results/held.jsonl
"""

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from typing import Any

import click

Row = dict[str, Any]
# an attack that works less often than this is no backdoor that a detector can be asked to find
WORKING = 0.9


def table(rows: list[Row]) -> list[str]:
    """One line per model; several seeds are summed up in it."""
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_name[row["name"]].append(row)
    lines = [
        "| model | attack, target | accuracy | ASR | verdict (scans) | target found | statistic: mean (range) | threshold | p, largest "
        "| untargeted: class (smallest gain) | mask: class (gain) | map: p, mutual, y + 1 |",
        "| --- " * 12 + "|",
    ]
    for name, own in sorted(by_name.items(), key=lambda item: (item[1][0]["attack"] == "none", item[0])):
        first = own[0]
        outcomes = [r["verdict"]["outcome"] for r in own]
        counts = ", ".join(f"{o} ({outcomes.count(o)})" for o in sorted(set(outcomes)))
        targets = ", ".join(sorted({str(r["verdict"]["target"]) for r in own if r["verdict"]["target"] is not None})) or "–"
        values = [r["verdict"]["statistic"] for r in own if r["verdict"]["statistic"] is not None]
        spread = f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "–"
        p = max((r["verdict"]["p_value"] for r in own if r["verdict"]["p_value"] is not None), default=float("nan"))
        attack = (
            "clean" if first["attack"] == "none" else f"{first['attack']}, {'all-to-all' if first['target'] is None else first['target']}"
        )
        asr = "–" if first["asr"] is None else f"{first['asr']:.3f}"
        threshold = first["verdict"]["threshold"]
        shown = "–" if threshold is None else f"{threshold:.2f}"
        model = f"{name} | {attack} | {first['model_accuracy']:.3f} | {asr}"
        lines.append(f"| {model} | {counts} | {targets} | {spread} | {shown} | {p:.1e} {_aside(first)} |")
    return lines


def _aside(row: Row) -> str:
    """The columns on what the verdict does not use."""
    if "untargeted" not in row:
        return "| – | – | –"
    untargeted, mask, found = row["untargeted"], row["mask"], row["map"]
    shown = "–" if found is None else f"{found['p_value']:.2f}, {found['mutual']:.0%}, {found['next']:.0%}"
    return f"| {untargeted['class']} ({untargeted['smallest_gain']:+.3f}) | {mask['class']} ({mask['gain']:+.3f}) | {shown}"


def totals(rows: list[Row]) -> list[str]:
    """Found and falsely flagged models; attacks with an ASR below WORKING are left out and counted."""
    working = [r for r in rows if r["attack"] != "none" and (r["asr"] or 0) >= WORKING]
    clean = [r for r in rows if r["attack"] == "none"]
    weak = [r for r in rows if r["attack"] != "none" and (r["asr"] or 0) < WORKING]

    def found(r: Row) -> bool:
        return bool(r["verdict"]["outcome"] == "backdoored" and r["verdict"]["target"] == r["target"])

    lines = []
    for kind, group in (
        ("all-to-one", [r for r in working if r["target"] is not None]),
        ("all-to-all", [r for r in working if r["target"] is None]),
    ):
        if group:
            lines.append(f"- {kind} backdoors called backdoored with the right target: {sum(map(found, group))} of {len(group)} scans")
    flagged = sum(r["verdict"]["outcome"] == "backdoored" for r in clean)
    suspected = sum(r["verdict"]["outcome"] == "suspicious" for r in clean)
    lines.append(f"- clean models called backdoored: {flagged} of {len(clean)} scans; suspicious: {suspected}")
    if weak:
        lines.append(f"- left out, the attack works on less than {WORKING:.0%}: {', '.join(sorted({r['name'] for r in weak}))}")
    environment = rows[0]["environment"]
    seconds = median(r["seconds"] for r in rows)
    hardware = f"{environment['processor']}, {environment['threads']} thread(s), torch {environment['torch']}"
    settings = rows[0]["settings"]
    lines.append(
        f"- {len(rows)} scans, noise {settings['noise']}, {settings['restarts']} restarts; median {seconds:.0f} s a scan on {hardware}, "
        "with other work on the machine"
    )
    return lines


SECTIONS = {
    "examples.jsonl": "The two examples at ten seeds each: two of the held-out models below, taken because the scan gets them right.",
    "held.jsonl": "Held-out models: other seeds and targets than those that settings were tried on. Their attacks and targets were set "
    "beforehand; some of them were scanned with earlier versions while the method was made.",
    "tune.jsonl": "The models that settings were tried on. Not evidence of what the scan does on others.",
    "paper.jsonl": "The paper's own noise (Eq. 3 and 4 on the folded weights of all layers), on some of the same models.",
}
INTRODUCTION = """# Evidence

Regenerated by `make evidence` from the rows in `bench/results/`, which `bench.zoo` (training) and `bench.detect` (scanning) write.
Models: ResNet18 and VGG16 at 1/4 width, trained on GTSRB split by track, or on CIFAR-10, 6 to 8 epochs, exported as ONNX with their
batch norm folded. Images: 430 clean GTSRB images, 10 a class, of tracks that no model was trained on; 500 of CIFAR-10's test images.
The statistic and its threshold are explained in [method.md](method.md). One row is one model.
"""


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page there instead of to stdout.")
def main(files: tuple[Path, ...], out: Path | None) -> None:
    """Print the table of each of FILES and its totals."""
    parts = [INTRODUCTION] if out else []
    for file in files:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        parts.append("\n".join([f"## {file.stem}", "", SECTIONS.get(file.name, str(file)), "", *table(rows), "", *totals(rows), ""]))
    page = "\n".join(parts)
    if out is None:
        click.echo(page)
    else:
        out.write_text(page)


if __name__ == "__main__":
    main()
