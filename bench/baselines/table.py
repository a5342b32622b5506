"""The rows of `bench.baselines` as Markdown."""

from statistics import median
from typing import Any

from bench.tables import greater, header, rate, works


def named(row: dict[str, Any]) -> bool:
    """Whether the target class is the one that stands out, flagged or not."""
    return bool(row["found"] == row["target"])


def hit(row: dict[str, Any]) -> bool:
    """Whether the model is flagged for the right class."""
    return bool(row["flagged"] and named(row))


def page(results: list[dict[str, Any]]) -> list[str]:
    """What they answer on the same models, by attack and in all."""
    lines = header(
        ["method", "attack", "flagged, right target", "right target, flagged or not", "clean flagged", "AUC against clean", "seconds"]
    )
    for method in dict.fromkeys(r["method"] for r in results):
        own = [r for r in results if r["method"] == method]
        clean = [r for r in own if r["attack"] == "none"]
        working = [r for r in own if works(r) and r["target"] is not None]
        seconds = f"{median(r['seconds'] for r in own):.0f}"
        for kind in sorted({r["attack"] for r in working}):
            some = [r for r in working if r["attack"] == kind]
            lines.append(
                f"| {method} | {kind} | {sum(map(hit, some))} of {len(some)} | {sum(map(named, some))} of {len(some)} | – | – | – |"
            )
        auc = greater([r["statistic"] for r in working], [r["statistic"] for r in clean])
        whole = f"{rate(map(hit, working))} | {rate(map(named, working))} | {rate(r['flagged'] for r in clean)}"
        lines.append(f"| {method} | all | {whole} | {auc:.3f} | {seconds} |")
    return lines
