"""The rows of `bench.dormant` as Markdown."""

from typing import Any

from bench.rows import succeeds
from bench.tables import header, rate

Row = dict[str, Any]


def page(rows: list[Row]) -> list[str]:
    """Totals, then where switches were hidden by network, then networks without one."""
    switches, clean = [r for r in rows if r["attack"] != "none"], [r for r in rows if r["attack"] == "none"]
    working = [r for r in switches if succeeds(r, r["asr"])]
    new = [r for r in working if r["held"]]
    lines = [
        f"- switches that work, found with their target: {rate(map(found, working))}; of those that nothing was tried on {rate(map(found, new))}",
        f"- switches that do not work (ASR below 90 %): {sum(map(found, switches)) - sum(map(found, working))} of "
        f"{len(switches) - len(working)} found",
        f"- networks without a switch that are called backdoored: {rate(r['called'] is not None for r in clean)}",
        "",
        *header(["switch", "held out", "network", "seeds", "ASR", "found", "neurons", "moved", "push over the living's largest"]),
    ]
    keys = sorted({(r["variant"], r["network"]) for r in switches})
    for variant, network in keys:
        own = [r for r in switches if (r["variant"], r["network"]) == (variant, network)]
        hits = [r for r in own if r["moved"] is not None]
        asr = " to ".join(dict.fromkeys(f"{v:.2f}" for v in (min(r["asr"] for r in own), max(r["asr"] for r in own))))
        counted = ", ".join(sorted({str(len(r["neurons"])) for r in hits})) or "–"
        moved = f"{min(r['moved'] for r in hits):.0%}" if hits else "–"
        ratio = f"{min(r['ratio'] for r in hits):.0f}" if hits and all(r["ratio"] is not None for r in hits) else "–"
        held = "yes" if own[0]["held"] else "no"
        lines.append(f"| {variant} | {held} | {network} | {len(own)} | {asr} | {sum(map(found, own))} of {len(own)} | {counted} | {moved} | {ratio} |")
    lines += ["", *header(["network without a switch", "size", "accuracy", "neurons", "dormant", "forced", "most that one moves", "seconds"])]
    for row in clean:
        most = "–" if row["moved"] is None else f"{row['moved']:.0%}"
        lines.append(
            f"| {row['network']}, seed {row['seed']} | {row['size']} | {row['accuracy']:.1%} | {row['of']} | {row['dormant']} | {row['tried']} | "
            f"{most} | {row['seconds']:.1f} |"
        )
    return lines


def found(row: Row) -> bool:
    """Whether the model is called backdoored with the target of its switch."""
    return row["called"] is not None and row["called"] == row["target"]
