"""The rows of `bench.dormant` as Markdown."""

from typing import Any

from bench.rows import succeeds
from bench.tables import header, rate

Row = dict[str, Any]


# a network that knows fewer of its images is no use to anybody, with or without a switch
KNOWS = 0.8


def page(rows: list[Row]) -> list[str]:
    """Totals, then where switches were hidden by network, then networks without one."""
    switches, clean = [r for r in rows if r["attack"] != "none"], [r for r in rows if r["attack"] == "none"]
    working = [r for r in switches if succeeds(r, r["asr"]) and r["accuracy"] >= KNOWS]
    weak = [r for r in switches if r not in working]
    lines = [
        f"- switches that work (ASR of 90 %, accuracy of 80 % and more), called backdoored: {rate(map(called, working))}",
        f"- with their own target: {rate(map(found, working))}",
        f"- switches that do not work, or have no trigger that was tried, called backdoored: {sum(map(called, weak))} of {len(weak)}",
        f"- networks without a switch, called backdoored: {rate(map(called, clean))}",
        "",
        *header(
            ["switch", "named beforehand", "network", "accuracy", "ASR", "called backdoored", "class", "neurons", "moved", "push", "p"]
        ),
    ]
    for row in sorted(switches, key=lambda r: (r["variant"], r["network"], r["seed"])):
        seen = row["moved"] is not None
        cells = [
            row["variant"],
            "yes" if row["held"] else "no",
            row["network"],
            f"{row['accuracy']:.2f}",
            "–" if row["asr"] is None else f"{row['asr']:.2f}",
            "yes" if called(row) else "no",
        ]
        cells += [f"{row['called']} (target {row['target']})" if called(row) else "–", str(len(row["neurons"])) if seen else "–"]
        cells += [f"{row['moved']:.0%}" if seen else "–", "–" if row["ratio"] is None else f"{row['ratio']:.1f}"]
        cells += [f"{row['p_value']:.1e}" if seen else "–"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        *header(["network without a switch", "size", "accuracy", "neurons", "dormant", "forced", "most moved", "seconds"]),
    ]
    for row in clean:
        most = "–" if row["moved"] is None else f"{row['moved']:.0%}"
        cells = [row["network"], str(row["size"]), f"{row['accuracy']:.1%}", str(row["of"]), str(row["dormant"]), str(row["tried"]), most]
        lines.append(f"| {' | '.join(cells)} | {row['seconds']:.1f} |")
    return lines


def called(row: Row) -> bool:
    """Whether the model is called backdoored, with whatever class."""
    return row["called"] is not None


def found(row: Row) -> bool:
    """Whether it is with the target of its switch."""
    return called(row) and row["called"] == row["target"]
