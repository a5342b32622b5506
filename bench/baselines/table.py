"""The rows of `bench.baselines` as Markdown."""

from statistics import median
from typing import Any

from bench.rows import attack
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
    for method in dict.fromkeys(map(_method, results)):
        own = [r for r in results if _method(r) == method]
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


def each(results: list[dict[str, Any]]) -> list[str]:
    """What they answer, model by model."""
    lines = header(["model", "attack, target", "method", "verdict", "statistic", "seconds (of a processor)"])
    for row in results:
        kind = attack(row) + ("" if row["target"] is None else f", {row['target']}")
        called = f"backdoored, {row['found']}" if row["flagged"] else f"not called, {row['found']} in front"
        told = f"{called}: {'right' if _right(row) else 'wrong'}"
        seconds = f"{row['seconds']:.0f} ({row['cpu_seconds']:.0f})"
        lines.append(f"| {row['name']} | {kind} | {_method(row)} | {told} | {row['statistic']:.2f} | {seconds} |")
    return lines


def costs(results: list[dict[str, Any]]) -> str:
    """Seconds of a processor that each method takes to its answer on each model, and whether that is right."""
    models = list(dict.fromkeys(r["name"] for r in results))
    lines = header(["method", *models])
    for method in dict.fromkeys(map(_method, results)):
        own = {r["name"]: f"{r['cpu_seconds']:.0f}, {'right' if _right(r) else 'wrong'}" for r in results if _method(r) == method}
        lines.append(f"| {method} | {' | '.join(own.get(m, '–') for m in models)} |")
    return "\n".join(lines) + "\n"


def _right(row: dict[str, Any]) -> bool:
    """Whether the right class is called, or nothing of a clean model."""
    return hit(row) if row["attack"] != "none" else not row["flagged"]


def _method(row: dict[str, Any]) -> str:
    """Its name, and the scale where that is not the usual one."""
    scale = row.get("scale", "small")
    return str(row["method"]) if scale == "small" else f"{row['method']}, {scale}"
