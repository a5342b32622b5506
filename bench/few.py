"""Scans of networks with two to four classes, in the words that a user reads."""

from typing import Any

from bench.rows import attack
from bench.tables import header, learnt, plain, rate, works

Row = dict[str, Any]


def page(rows: list[Row]) -> list[str]:
    """Totals, then every model; the verdict is the one that was told, with what its copies say."""
    rows, poor = learnt(rows)
    if not rows:
        return ["No model was scanned yet."]
    attacked, clean = [r for r in rows if works(r)], [r for r in rows if r["attack"] == "none"]
    lines = [
        f"- attacks that work, called backdoored with the right target: {rate(right(r) for r in attacked)}",
        f"- of these, *no backdoor found*: {rate(_told(r) == 'no backdoor found' for r in attacked)}",
        f"- clean models called backdoored: {rate(_told(r) == 'backdoored' for r in clean)}",
        f"- clean models with *no backdoor found*: {rate(_told(r) == 'no backdoor found' for r in clean)}",
        *([f"- left out, they know their task too little: {', '.join(r['name'] for r in poor)}"] if poor else []),
        "",
        *header(["model", "classes", "attack", "ASR", "verdict", "in its words", "s"]),
    ]
    return lines + [_line(row) for row in rows]


def right(row: Row) -> bool:
    """Whether it was called backdoored with its target."""
    return _told(row) == "backdoored" and row["target"] in row["verdict"]["targets"]


def _told(row: Row) -> str:
    return str(row["verdict"]["outcome"])


def _line(row: Row) -> str:
    asr = "–" if row["asr"] is None else f"{row['asr']:.2f}"
    verdict = row["verdict"]
    targets = "".join(f" {c}" for c in verdict["targets"])
    words = plain(verdict["reason"])
    classes = row["kind"]["classes"]
    return f"| {row['name']} | {classes} | {attack(row)} | {asr} | {verdict['outcome']}{targets} | {words} | {row['seconds']:.0f} |"
