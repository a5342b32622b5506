"""The rows of `bench.dormant` as Markdown."""

from typing import Any

from bench.dormant.variants import SWITCH
from bench.rows import WORKING
from bench.tables import header, rate

Row = dict[str, Any]


# a network that knows fewer of its images is no use to anybody, with or without a switch
KNOWS = 0.8


def page(rows: list[Row]) -> list[str]:
    """Totals, of architectures that only measure and of those that the criterion was tried on; then all switches, then what has none."""
    switches, clean = [r for r in rows if r["attack"] == SWITCH], [r for r in rows if r["attack"] == "none"]
    working = [r for r in switches if works(r)]
    weak = [r for r in switches if not works(r)]
    held, tried = ([r for r in working if r["held"] is side] for side in (True, False))
    lines = [
        f"- switches that work, in architectures that only measure: called backdoored {rate(map(called, held))}, with their target "
        f"{rate(map(found, held))}",
        f"- in architectures that the criterion was tried on: {rate(map(called, tried))}, with their target {rate(map(found, tried))}",
        f"- switches that do not work: called backdoored {sum(map(called, weak))} of {len(weak)}",
        f"- networks without a switch: called backdoored {rate(map(called, clean))}",
        "",
        *header(["switch", "where", "network", "held", "accuracy", "ASR", "class", "neurons", "moved", "push", "p"]),
    ]
    for row in sorted((r for r in rows if r["attack"] != "none"), key=lambda r: (r["variant"], r["depth"], r["network"])):
        cells = [row["variant"], row["depth"] or "all stages", row["network"], "yes" if row["held"] else "no"]
        lines.append(f"| {' | '.join([*cells, *(_seen(row) if row['attack'] == SWITCH else ['could not be written', *['–'] * 6])])} |")
    lines += [
        "",
        *header(["network without a switch", "size", "accuracy", "neurons", "dormant", "forced", "most moved", "seconds"]),
    ]
    for row in clean:
        most = "–" if row["moved"] is None else f"{row['moved']:.0%}"
        cells = [row["network"], str(row["size"]), f"{row['accuracy']:.1%}", str(row["of"]), str(row["dormant"]), str(row["tried"]), most]
        lines.append(f"| {' | '.join(cells)} | {row['seconds']:.1f} |")
    return lines


def _seen(row: Row) -> list[str]:
    """How the switch works, and what the criterion says."""
    cells = [f"{row['accuracy']:.2f}", f"{row['asr']:.2f}"]
    cells.append("not found" if not called(row) else f"{row['called']}" if found(row) else f"{row['called']} (target {row['target']})")
    if row["moved"] is None:
        return [*cells, "–", "–", "–", "–"]
    ratio = "–" if row["ratio"] is None else f"{row['ratio']:.1f}"
    return [*cells, str(len(row["neurons"])), f"{row['moved']:.0%}", ratio, f"{row['p_value']:.1e}"]


def works(row: Row) -> bool:
    """Whether the trigger leads to the target, and the network still knows its images."""
    asr: float = row["asr"]
    accuracy: float = row["accuracy"]
    return asr >= WORKING and accuracy >= KNOWS


def called(row: Row) -> bool:
    """Whether the model is called backdoored, with whatever class."""
    return row["called"] is not None


def found(row: Row) -> bool:
    """Whether it is with the target of its switch."""
    return called(row) and row["called"] == row["target"]
