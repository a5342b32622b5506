"""What the scan finds of backdoors that were planted into the files of other people, as lines of the page."""

from collections.abc import Iterable
from typing import Any

from bench.real.plant import ATTACKS, NONE
from bench.real.table import HELD, TUNE
from bench.tables import header, plain, rate

Row = dict[str, Any]

TOP = """The same files with a backdoor that a short tuning on other images of their kind planted, one of each kind of change: a patch
(badnets), a picture mixed in (blend), a warp (wanet), frequencies (ftrojan) and a shift of all colours (colour, not for grey images). Two
of them for each file that has labels and images of at most 48 pixels, and their targets, were drawn by lot. One counts where the trigger
moves 90 % of the other classes' images that were kept from the tuning and the clean accuracy falls by 10 points at most; it is found
where the verdict is *backdoored* with the right target. The scan is told the true preprocessing (`python -m bench.real plant FOLDER
--pixels 48`)."""


def lines(planted: list[Row]) -> list[str]:
    """Counts by kind, then every one."""
    by_lot = [r for r in planted if r.get("seed")]
    found = [
        TOP,
        "",
        *header(["part", "kind", "planted", "work", "found, right target", "called, another target", "fragile", "nothing found"]),
    ]
    for part in (HELD, TUNE):
        own = [r for r in by_lot if r["part"] == part]
        for kind in (*ATTACKS, None):
            found += _counted(part, kind, [r for r in own if kind in (None, r["attack"])])
    found += ["", *header(["model", "part", "kind", "ASR", "accuracy", "with it", "verdict", "target", "named", "why"])]
    return [*found, *(_one(r) for r in sorted(planted, key=lambda r: (r["part"], r["name"], r["attack"])))]


def right(row: Row) -> bool:
    """Whether it was found, with its target; an all-to-all one as such."""
    return row["outcome"] == "backdoored" and (row["target"] is None or row["target"] in row["targets"])


def _counted(part: str, kind: str | None, rows: list[Row]) -> Iterable[str]:
    if not rows:
        return
    work = [r for r in rows if r["outcome"] != NONE]
    called = sum(r["outcome"] == "backdoored" and not right(r) for r in work)
    fragile = sum(r["outcome"] == "fragile" for r in work)
    counts = [len(rows), len(work), rate(right(r) for r in work), called, fragile]
    counts.append(len(work) - sum(r["outcome"] in ("backdoored", "fragile") for r in work))
    yield f"| {part} | {kind or '**all**'} | {' | '.join(map(str, counts))} |"


def _one(row: Row) -> str:
    before, after = row["accuracies"] or (None, None)
    shares = ("–" if v is None else f"{v:.0%}" for v in (row["asr"], before, after))
    target = "all" if row["target"] is None else str(row["target"])
    named = ", ".join(map(str, row["targets"])) or "–"
    outcome = row["outcome"] if right(row) or row["outcome"] == NONE else f"**{row['outcome']}**"
    return f"| {' | '.join([row['name'], row['part'], row['attack'], *shares, outcome, target, named, plain(row['reason'])])} |"
