"""How near the time left is that a scan tells while it runs, at each fifth of what it took; appends rows, and prints them as a table.

python -m bench.progress             both examples, on two threads; a minute
python -m bench.progress --print     the table from the rows alone
"""

import os
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from banscan.scanner import facts
from banscan.scanner.machine.forecast import Forecast
from banscan.scanner.scan import scan
from banscan.scanner.settings import Options, Settings
from bench import rows

RESULTS, EXAMPLES = Path("bench/results/progress.jsonl"), Path("examples")
SUBJECTS = ("backdoored", "clean")
FIFTHS = (1, 2, 3, 4)
# of the time that is really left
NEAR = 1 / 3
INTRO = """## The time left

What a scan that somebody watches tells of the time that it still takes, in seconds, at each fifth of what it took, and in brackets what
was left then (`python -m bench.progress`). It is near where it is within a third of that.
"""


class Watch:
    """Progress that keeps what the forecast said, and when."""

    def __init__(self) -> None:
        self.forecast = Forecast(lambda stage, done, total: None)
        self.begin = time.monotonic()
        self.told: list[tuple[float, float | None]] = []

    def left(self, at: float) -> float | None:
        """What was said so many seconds after the beginning; between two words time goes on."""
        said = [(when, left) for when, left in self.told if when <= at]
        if not said or said[-1][1] is None:
            return None
        when, left = said[-1]
        return max(0.0, (left or 0.0) - (at - when))

    def keep(self) -> None:
        """Keeps what is said now."""
        self.told.append((time.monotonic() - self.begin, self.forecast.left()))


def measured(name: str, threads: int) -> dict[str, Any]:
    """One scan of an example."""
    load, watch = os.getloadavg()[0], Watch()
    watch.forecast.show = lambda stage, done, total: watch.keep()
    report = scan(
        EXAMPLES / f"{name}.onnx",
        EXAMPLES / "clean",
        settings=Settings(),
        options=Options(device="cpu", threads=threads),
        progress=watch.forecast,
    )
    seconds = time.monotonic() - watch.begin
    told = [watch.left(seconds * fifth / 5) for fifth in FIFTHS]
    return {
        "subject": name,
        "commit": rows.commit(),
        "machine": {"processor": facts.processor(), "threads": threads, "torch": metadata.version("torch")},
        "load": round(load, 2),
        "outcome": report.verdict.outcome,
        "whole": list(report.whole),
        "seconds": round(seconds, 2),
        "told": [None if left is None else round(left, 2) for left in told],
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for every scan."""
    lines = [
        f"| example, threads | load before | s | {' | '.join(f'told at {f}/5 (left)' for f in FIFTHS)} | near |",
        f"| --- | --- | --- |{' --- |' * len(FIFTHS)} --- |",
    ]
    for row in found:
        left = [row["seconds"] * (1 - f / 5) for f in FIFTHS]
        pairs = list(zip(row["told"], left, strict=True))
        near = sum(told is not None and abs(told - real) <= NEAR * real for told, real in pairs)
        name = f"{row['subject']}, {row['machine']['threads']}"
        cells = [f"{'–' if told is None else f'{told:.1f}'} ({real:.1f})" for told, real in pairs]
        lines.append(f"| {name} | {row['load']:.1f} | {row['seconds']:.1f} | {' | '.join(cells)} | {near} of {len(FIFTHS)} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.option("--runs", default=1, show_default=True)
@click.option("--print", "only_print", is_flag=True, help="The table from the rows that are there.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(threads: int, runs: int, only_print: bool, out: Path) -> None:
    """Append a row for each scan to OUT, and print the table."""
    for _ in range(0 if only_print else runs):
        for name in SUBJECTS:
            rows.append(out, measured(name, threads))
    click.echo(table(rows.read(out)))


if __name__ == "__main__":
    main()
