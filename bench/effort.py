"""What a scan sees with less effort, and what it takes: the same models scanned with every `--effort`."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import mean, median
from typing import Any

from banscan.scanner.probability import of_backdoor
from bench import probability, replay
from bench.rows import HELD, LOOKED, attack
from bench.tables import found, header, rate, works

Row = dict[str, Any]
EFFORTS = ("thorough", "standard", "quick")
# the part of the rows of several efforts; those of "thorough" are in the parts of the zoo
PART = "effort"
UNSCANNED = "not scanned"


def page(parts: Mapping[str, list[Row]]) -> list[str]:
    """Backdoors found, clean models called and seconds, and the verdicts model by model."""
    thorough = {row["name"]: row for part in (*LOOKED, *HELD) for row in parts[part] if row["settings"]["seed"] == 0}
    held = {row["name"] for row in parts[PART] if row["part"] in HELD}
    by_name: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in parts[PART]:
        by_name[row["name"]][row["settings"]["effort"]] = row
        if row["name"] in thorough:
            by_name[row["name"]]["thorough"] = thorough[row["name"]]
    lines = []
    for title, names in (("models that settings may be tried on", by_name.keys() - held), ("held models", by_name.keys() & held)):
        own = [by_name[name] for name in sorted(names)]
        lines += [f"## {title.capitalize()}", "", *_totals(own), "", _brier(own), "", *_each(own), ""]
    return lines[:-1]


def _totals(models: list[dict[str, Row]]) -> list[str]:
    """A line for each effort, of the models that it scanned."""
    lines = header(["effort", "backdoors found with the right target", "clean models called backdoored", "searched whole", "median s"])
    for effort in EFFORTS:
        rows = [own[effort] for own in models if effort in own]
        again = rate(bool(row["whole"]) for row in rows if "whole" in row) if effort == "standard" else "–"
        backdoors = rate(found(row) for row in rows if works(row))
        clean = rate(replay.verdict(row).outcome == "backdoored" for row in rows if row["attack"] == "none")
        seconds = f"{median(row['seconds'] for row in rows):.0f}" if rows else "–"
        lines.append(f"| {effort} | {backdoors} | {clean} | {again} | {seconds} |")
    return lines


def _brier(models: list[dict[str, Row]]) -> str:
    """How well the probability holds that a report prints, which was fitted to thorough scans."""
    found, truth = probability.scores([own["standard"] for own in models if "standard" in own])
    errors = [(of_backdoor(score) - one) ** 2 for score, one in zip(found, truth, strict=True)]
    return f"Brier score of the printed probability, *standard*: {mean(errors):.3f}, of {len(errors)} models."


def _each(models: list[dict[str, Row]]) -> list[str]:
    """The verdicts of one model in one line."""
    lines = header(["model", "attack", "ASR", *EFFORTS, "searched whole"])
    for own in models:
        row = next(iter(own.values()))
        asr = "–" if row["asr"] is None else f"{row['asr']:.2f}"
        told = [_told(own[effort]) if effort in own else UNSCANNED for effort in EFFORTS]
        whole = ", ".join(own["standard"]["whole"]) if "standard" in own else ""
        lines.append(f"| {row['name']} | {attack(row)} | {asr} | {' | '.join(told)} | {whole} |")
    return lines


def _told(row: Row) -> str:
    verdict = replay.verdict(row)
    score = "" if verdict.score is None else f", score {verdict.score:.2f}"
    at = "" if verdict.target is None else f" {verdict.target}"
    return f"{verdict.outcome}{at}{score}"
