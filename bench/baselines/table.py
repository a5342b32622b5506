"""The rows of `bench.baselines` as Markdown."""

from statistics import median
from typing import Any

from bench.tables import greater, rate, works


def page(results: list[dict[str, Any]]) -> list[str]:
    """What they answer on the same models, by attack and in all."""
    lines = ["| method | attack | flagged, right target | right target, flagged or not | clean flagged | AUC against clean | seconds |"]
    lines.append("| --- " * 7 + "|")
    for method in dict.fromkeys(r["method"] for r in results):
        own = [r for r in results if r["method"] == method]
        clean = [r for r in own if r["attack"] == "none"]
        working = [r for r in own if works(r) and r["target"] is not None]
        seconds = f"{median(r['seconds'] for r in own):.0f}"
        for kind in sorted({r["attack"] for r in working}):
            some = [r for r in working if r["attack"] == kind]
            hits = [r["flagged"] and r["found"] == r["target"] for r in some]
            named = [r["found"] == r["target"] for r in some]
            lines.append(f"| {method} | {kind} | {sum(hits)} of {len(hits)} | {sum(named)} of {len(named)} | – | – | – |")
        hits = [r["flagged"] and r["found"] == r["target"] for r in working]
        named = [r["found"] == r["target"] for r in working]
        auc = greater([r["statistic"] for r in working], [r["statistic"] for r in clean])
        lines.append(f"| {method} | all | {rate(hits)} | {rate(named)} | {rate(r['flagged'] for r in clean)} | {auc:.3f} | {seconds} |")
    return lines
