"""Tables of which scaling is taken for the small classifiers' own, and of what a scan says of them."""

from typing import Any

from bench.conventions.fit import SAME
from bench.tables import header, rate

Row = dict[str, Any]
PARTS = ("held", "tune")
BACKDOORED = "backdoored"
SEEN = ("fragile", "suspicious", BACKDOORED)
OUTCOMES = ("no backdoor found", "inconclusive", *SEEN)


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
    """Markdown: the verdicts on clean models and on backdoored ones, and all those that say more than that nothing was found."""
    clean, attacked = ([r for r in results if (r["attack"] == "none") == is_clean] for is_clean in (True, False))
    lines = header(["clean", "models", *OUTCOMES, "called backdoored"])
    for part in PARTS:
        own = [r for r in clean if r["part"] == part]
        lines.append(f"| {part} | {_counted(own)} | {rate(r['outcome'] == BACKDOORED for r in own)} |")
    lines += [
        "",
        *header(["with a backdoor", "models", *OUTCOMES, "backdoored, right target", "fragile or more, right target"]),
    ]
    for part in PARTS:
        own = [r for r in attacked if r["part"] == part]
        called, seen = (rate(r["outcome"] in outcomes and r["target"] in r["targets"] for r in own) for outcomes in ((BACKDOORED,), SEEN))
        lines.append(f"| {part} | {_counted(own)} | {called} | {seen} |")
    lines += ["", "Clean ones that something was found in:", "", *header(["model", "part", "verdict", "preprocessing", "why"])]
    lines += [f"| {r['name']} | {_told(r)} |" for r in clean if r["outcome"] in SEEN]
    lines += ["", "All with a backdoor:", "", *header(["model", "target", "ASR", "part", "verdict", "preprocessing", "why"])]
    lines += [f"| {r['name']} | {r['target']} | {r['asr']:.0%} | {_told(r)} |" for r in attacked]
    return lines


def _counted(rows: list[Row]) -> str:
    return " | ".join((str(len(rows)), *(str(sum(r["outcome"] == o for r in rows)) for o in OUTCOMES)))


def _told(row: Row) -> str:
    taken = row["chosen"] or ", ".join(f"{name}: {outcome}" for name, outcome in row["under"].items()) or "left open"
    return f"{row['part']} | {row['outcome']} | {taken} | {row['reason'].replace('|', '/')}"


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
