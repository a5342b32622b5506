"""The rows of `bench.whole` as Markdown."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.whole.subjects import SUBJECTS

Row = dict[str, Any]
FAILED, UNFINISHED = "failed", "not finished"
# seconds that are worth a line of the stages
SHOWN = 0.05
# what is not in a stage, and all of it
REST, WHOLE = "python, torch and report", "whole process"
INTRO = """## Whole scans

`banscan MODEL --clean-dir DIR` as a process, from its start to its end. The examples come with banscan; the other networks are made by the
benchmark, with random weights and a last layer that tells classes of made-up images apart, 10 images a class at 32×32 (43 where there are
10 classes), 5 at 224×224 (1 where there are 1,000 classes; a scan reads 500). They are for timing only: what is found in them says nothing
of networks that were trained. Peak memory is of all processes of a scan together, what they share counted once, looked at every second;
where a scan ran on a GPU, the most of its memory that was in use stands beside it. *Against the earlier* is how many times as long the
earlier version takes without options. Copies (`--controls`) are part of none of these scans; *inconclusive* is what networks of a kind end
with that no clean model measured stands for.
"""


def tables(rows: Sequence[Row]) -> str:
    """Times, memory and stages for every machine, of the last commit that was measured there with the same options."""
    good = [r for r in rows if r["outcome"] != FAILED]
    parts = []
    for machine in dict.fromkeys(_machine(r) for r in good):
        own = [r for r in good if _machine(r) == machine]
        loads = [r["load"] for r in own]
        parts.append(f"### {machine}\n")
        parts.append(f"Other work on the machine before the scans began, as its load: {min(loads):.1f} to {max(loads):.1f}.\n")
        parts.append(_times(_latest(own)))
        parts += _stages(_latest(own))
    return "\n".join(parts)


def _machine(row: Row) -> str:
    m = row["machine"]
    threads = f"{m['threads']} thread{'' if m['threads'] == 1 else 's'}"
    return f"Scans on {m['processor']}, {threads}, torch {m['torch']}"


def _latest(rows: list[Row]) -> list[list[Row]]:
    """The runs of each subject, version and options, subjects in their order; of several commits of this checkout the last."""
    order = [s.name for s in SUBJECTS]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (order.index(row["subject"]), tuple(row["options"]), row["beside"], row["commit"] if row["beside"] else None)
        own = groups.setdefault(key, [])
        if own and own[-1]["commit"] != row["commit"]:
            own.clear()
        own.append(row)
    return [groups[key] for key in sorted(groups, key=lambda k: (k[0], k[2], k[1]))]


def _done(runs: list[Row]) -> list[float]:
    return [r["seconds"] for r in runs if r["outcome"] != UNFINISHED]


def _times(groups: list[list[Row]]) -> str:
    lines = [
        "| network, images | banscan | options | s, median of n (range) | against the earlier | peak memory | GPU | verdict | score |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for runs in groups:
        last, seconds = runs[-1], _done(runs)
        # one that met its limit is shown where none came to its end
        shown = next((r for r in reversed(runs) if r["outcome"] != UNFINISHED), last)
        spread = f"{median(seconds):.1f} of {len(seconds)} ({min(seconds):.1f} to {max(seconds):.1f})" if seconds else _late(last)
        version = f"{shown['version']}, {shown['commit']}" if "version" in shown else shown["commit"]
        gpu = max((v for r in runs for k, v in r.get("memory", {}).items() if k.startswith("cuda")), default=None)
        cells = (
            _told(shown),
            version,
            f"`{' '.join(last['options'])}`" if last["options"] else "",
            spread,
            "" if last["beside"] else _against(runs, groups),
            f"{max(r['peak_mb'] for r in runs) / 1000:.1f} GB",
            "" if gpu is None else f"{gpu / 1e9:.1f} GB",
            shown["outcome"],
            "" if shown.get("score") is None else f"{shown['score']:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _told(row: Row) -> str:
    subject = next(s for s in SUBJECTS if s.name == row["subject"])
    return f"{subject.told}, {row['images']} images" if "images" in row else subject.told


def _late(row: Row) -> str:
    return f"not finished after {row['limit']:,.0f}"


def _against(runs: list[Row], groups: list[list[Row]]) -> str:
    """How many times as long an earlier version took; at least so many where that met its limit."""
    earlier = next((g for g in groups if g[0]["beside"] and g[0]["subject"] == runs[0]["subject"]), None)
    own = _done(runs)
    if earlier is None or not own:
        return ""
    theirs = _done(earlier)
    return f"{median(theirs) / median(own):.1f}" if theirs else f"over {max(r['limit'] for r in earlier) / median(own):.1f}"


def _stages(groups: list[list[Row]]) -> list[str]:
    """A table for each choice of options, a column for each subject: median seconds of this checkout's stages."""
    kept = [[r for r in runs if "stages" in r] for runs in groups if not runs[0]["beside"]]
    own = [runs for runs in kept if runs]
    made = []
    for options in dict.fromkeys(tuple(runs[0]["options"]) for runs in own):
        columns = [runs for runs in own if tuple(runs[0]["options"]) == options]
        names = dict.fromkeys(stage for runs in columns for r in runs for stage in r["stages"])
        asked = f", `{' '.join(options)}`" if options else ""
        lines = [
            f"| stage, median s{asked} | {' | '.join(runs[0]['subject'] for runs in columns)} |",
            f"| --- |{' --- |' * len(columns)}",
        ]
        for name in (*names, REST, WHOLE):
            values = [median(seconds(r, name) for r in runs) for runs in columns]
            if max(values) >= SHOWN:
                lines.append(f"| {name} | {' | '.join(f'{v:.1f}' if v >= SHOWN else '' for v in values)} |")
        made.append("\n".join(lines) + "\n")
    return made


def seconds(row: Row, stage: str) -> float:
    """Of a stage; of what is in none, and of the process."""
    if stage == WHOLE:
        return float(row["seconds"])
    return float(row["seconds"] - sum(row["stages"].values()) if stage == REST else row["stages"].get(stage, 0.0))
