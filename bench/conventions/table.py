"""Tables of which scaling is taken for the small classifiers' own, and of what a scan says of them."""

from typing import Any

from bench.conventions.fit import SAME
from bench.tables import header, rate

Row = dict[str, Any]
PARTS = ("held", "tune")
OUTCOMES = ("no backdoor found", "fragile", "inconclusive", "suspicious", "backdoored")


def page(results: list[Row]) -> list[str]:
    """Markdown: how often the right scaling is taken, by part and labels, by what it is, and the models where a wrong one is."""
    # where no candidate is right, none can be taken
    possible = [r for r in results if r["best"] >= SAME]
    lines = header(["part", "labels", "models", "a candidate is right", "right", "left open", "wrong", "the likeliest is right"])
    for part in PARTS:
        for labelled in (False, True):
            every = [r for r in results if (r["part"], r["labelled"]) == (part, labelled)]
            own = [r for r in every if r in possible]
            told = [rate(_right(r) for r in own), rate(r["chosen"] is None for r in own), rate(_wrong(r) for r in own)]
            first = "–" if labelled else rate(_first(r) >= SAME for r in own)
            lines.append(f"| {part} | {'with' if labelled else 'without'} | {len(every)} | {len(own)} | {' | '.join(told)} | {first} |")
    lines += ["", "Held models without labels, by what their pixels were scaled by:", ""]
    lines += header(["scaling", "models", "right", "left open", "wrong"])
    held = [r for r in possible if r["part"] == "held" and not r["labelled"]]
    for scaled in sorted({_scaled(r) for r in held}):
        own = [r for r in held if _scaled(r) == scaled]
        counts = [sum(f(r) for r in own) for f in (_right, _open, _wrong)]
        lines.append(f"| {scaled} | {len(own)} | {' | '.join(map(str, counts))} |")
    missed = [r for r in possible if _wrong(r)]
    lines += ["", "Where a wrong one is taken:", "", *header(["model", "part", "labels", "taken", "predictions that are the same"])]
    for r in missed:
        lines.append(f"| {r['name']} | {r['part']} | {'with' if r['labelled'] else 'without'} | {r['chosen']} | {r['agreement']:.0%} |")
    return lines


def scans(results: list[Row]) -> list[str]:
    """Markdown: the verdicts, all of them on clean models, and the models that are called backdoored or suspicious."""
    lines = header(["part", "models", *OUTCOMES, "called backdoored"])
    for part in PARTS:
        own = [r for r in results if r["part"] == part]
        counts = [str(sum(r["outcome"] == o for r in own)) for o in OUTCOMES]
        lines.append(f"| {part} | {len(own)} | {' | '.join(counts)} | {rate(r['outcome'] == OUTCOMES[-1] for r in own)} |")
    lines += ["", *header(["model", "part", "verdict", "preprocessing", "why"])]
    for r in results:
        if r["outcome"] in ("backdoored", "suspicious", "fragile"):
            taken = r["chosen"] or ", ".join(f"{name}: {outcome}" for name, outcome in r["under"].items()) or "left open"
            lines.append(f"| {r['name']} | {r['part']} | {r['outcome']} | {taken} | {r['reason'].replace('|', '/')} |")
    return lines


def _scaled(row: Row) -> str:
    return str(row["name"].rsplit("-", 2)[1])


def _right(row: Row) -> bool:
    return row["agreement"] is not None and row["agreement"] >= SAME


def _open(row: Row) -> bool:
    return row["chosen"] is None


def _wrong(row: Row) -> bool:
    return row["agreement"] is not None and row["agreement"] < SAME


def _first(row: Row) -> float:
    """How often the model says the same under what is taken, or under the likeliest of those left."""
    return float(next(iter(row["rivals"].values()), 0.0) if row["agreement"] is None else row["agreement"])
