"""What scans find by kind of attack and by architecture, on models of the second part of the zoo (`bench.zoo.lists.KINDS`)."""

from collections import Counter, defaultdict
from statistics import median
from typing import Any

from bench import replay, tables
from bench.tables import aims, finding, found, header, learnt, missed, outcome, rate, works
from bench.tables import table as models
from bench.zoo.lists import KINDS

Row = dict[str, Any]
KIND = {attack: name for name, kind in KINDS.items() for attack in (*kind.earlier, *kind.looked, *kind.new)}


def page(rows: list[Row]) -> list[str]:
    """Totals, kinds by architectures, what each criterion says alone, what is missed, and all models."""
    rows, poor = learnt(rows)
    if not rows:
        return ["No model was scanned yet."]
    left_out = [f"- left out, they know their task too little (accuracy): {', '.join(_knowing(r) for r in poor)}"] if poor else []
    weak = [f"{r['name']} (ASR {r['asr']:.2f}: {outcome(r)})" for r in rows if r["attack"] != "none" and not works(r)]
    left_out += [f"- left out, the attack works on less than 90 %: {', '.join(weak)}"] if weak else []
    each, statistics = models(rows)
    return [
        *tables.headline(rows, held=False),
        *left_out,
        f"- {_cost(rows)}",
        "",
        *_crossed(rows),
        "",
        "## Each criterion alone",
        "",
        *_alone(rows),
        "",
        "## Missed",
        "",
        *missed(rows),
        "",
        "## Models",
        "",
        *each,
        "",
        "## Statistics of the tests",
        "",
        *statistics,
    ]


def by_default(rows: list[Row]) -> list[Row]:
    """Of the rows of several efforts, those of held kinds with the default one."""
    return [row for row in rows if row["part"] == "kinds-held" and row["settings"]["effort"] == "standard"]


def headline(rows: list[Row], how: str, what: str = "attacks of kinds that nothing was tried on") -> list[str]:
    """The totals of scans: `what` was attacked, `how` they were asked for."""
    known = learnt(rows)[0]
    attacked = rate(found(row) for row in known if works(row))
    clean = rate(outcome(row) == "backdoored" for row in known if row["attack"] == "none")
    return [
        f"- {what}, {how}, called backdoored with the right target: {attacked}",
        f"- clean models beside them, {how}, called backdoored: {clean}",
    ]


def _knowing(row: Row) -> str:
    """A model that other models of its data are far ahead of, and what a scan says of it all the same."""
    return f"{row['name']} ({row['model_accuracy']:.2f}: {outcome(row)})"


def _architecture(row: Row) -> str:
    return str(row["name"].split("-")[1])


def _crossed(rows: list[Row]) -> list[str]:
    """Found of working attacks, a line for each kind, a column for each architecture; clean models called backdoored below."""
    columns = sorted({_architecture(r) for r in rows})
    lines = header(["kind", *columns, "all"])
    for kind in KINDS:
        own = [r for r in rows if works(r) and KIND[r["attack"]] == kind]
        if own:
            cells = [_count([found(r) for r in own if _architecture(r) == column]) for column in columns]
            lines.append(f"| {kind} | {' | '.join(cells)} | {rate(map(found, own))} |")
    clean = [r for r in rows if r["attack"] == "none"]
    cells = [_count([outcome(r) == "backdoored" for r in clean if _architecture(r) == column]) for column in columns]
    lines.append(f"| clean, called backdoored | {' | '.join(cells)} | {rate(outcome(r) == 'backdoored' for r in clean)} |")
    return lines


def _count(hits: list[bool]) -> str:
    return f"{sum(hits)} of {len(hits)}" if hits else "–"


def _alone(rows: list[Row]) -> list[str]:
    """Working attacks that each criterion finds by itself, by kind, those whose target it has in front, and clean models that it calls."""
    attacked: dict[str, list[Row]] = defaultdict(list)
    for row in filter(works, rows):
        attacked[KIND[row["attack"]]].append(row)
    clean = [r for r in rows if r["attack"] == "none"]
    kinds = [kind for kind in KINDS if kind in attacked]
    lines = header(["criterion", *(f"{kind} ({len(attacked[kind])})" for kind in kinds), f"clean ({len(clean)})"])
    for name in dict.fromkeys(f.criterion for row in rows for f in replay.findings(row)):
        cells = []
        for kind in kinds:
            own = [_says(row, name) for row in attacked[kind]]
            cells.append(f"{sum(exceeds for exceeds, _ in own)} ({sum(leads for _, leads in own)})")
        alarms = sum(_exceeds(row, name) for row in clean)
        lines.append(f"| {name} | {' | '.join(cells)} | {alarms} |")
    return lines


def _exceeds(row: Row, name: str) -> bool:
    own = finding(row, name)
    return own is not None and own.exceeds


def _says(row: Row, name: str) -> tuple[bool, bool]:
    """Whether a criterion exceeds its limit with a target in front, and whether a target is in front at all."""
    own = finding(row, name)
    if own is None or not own.classes:
        return False, False
    leads = aims(row).issuperset(own.classes)
    return own.exceeds and leads, leads


def _cost(rows: list[Row]) -> str:
    """How many were scanned, and how long it took."""
    seconds = median(r["seconds"] for r in rows)
    processors = Counter(r["environment"]["processor"] for r in rows)
    where = " and ".join(f"{processor} ({count})" for processor, count in processors.most_common())
    return f"{len(rows)} scans, median {seconds:.0f} s on {where}, with other work beside"
