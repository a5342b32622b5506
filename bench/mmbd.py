"""MM-BD's own rule (Wang et al., "MM-BD", IEEE S&P 2024) on what the test *margin* measured of the models of the tables.

Its null is a gamma distribution fitted to the other classes' largest margins; a model is called backdoored where the largest of all has an
order-statistic p-value below 0.05. As in its authors' program the power of the distribution function is one more than the number of the
others. Margins are those that rows hold: means of four starts, where they take the largest of thirty.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from bench.rows import arch, attack
from bench.tables import aims, finding, found, header, outcome, rate, works

Row = dict[str, Any]
LEVEL = 0.05


def margins(row: Row) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The largest margin of every class that was searched for [T]; None where the test was not applied."""
    own = finding(row, "margin")
    return None if own is None else np.square(np.array(own.values))


def judged(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[int, float]:
    """The place of the class with the largest margin of [T], and its p-value."""
    lead = int(values.argmax())
    others = np.delete(values, lead)
    shape, place, scale = stats.gamma.fit(others)
    below = stats.gamma.cdf(values[lead], shape, place, scale)
    return lead, float(1 - below ** (len(others) + 1))


def page(parts: Mapping[str, list[Row]]) -> list[str]:
    """By number of classes, and attack by attack: what its rule finds and calls wrongly, beside the whole scan."""
    answers = []
    for row in (row for own in parts.values() for row in own):
        values = margins(row)
        if values is not None:
            answers.append((row, len(values), *judged(values)))
    lines = header(["classes", "backdoored, right target: MM-BD's rule", "banscan", "clean, called backdoored: MM-BD's rule", "banscan"])
    for classes in sorted({count for _, count, _, _ in answers}):
        own = [a for a in answers if a[1] == classes]
        lines.append(f"| {classes} | {' | '.join(_cells(own))} |")
    lines += ["", *header(["data and architecture", "attack", "MM-BD's rule", "banscan"])]
    groups = defaultdict(list)
    for answer in answers:
        if answer[0]["attack"] == "none" or (works(answer[0]) and answer[0]["target"] is not None):
            groups[arch(answer[0]), attack(answer[0])].append(answer)
    for (name, kind), own in sorted(groups.items()):
        if kind == "clean":
            cells = [f"{sum(p < LEVEL for *_, p in own)} of {len(own)} called backdoored", str(sum(_called(a) for a in own))]
        else:
            cells = [f"{sum(map(_hit, own))} of {len(own)}", str(sum(found(a[0]) for a in own))]
        lines.append(f"| {name} | {kind} | {' | '.join(cells)} |")
    return lines


Answer = tuple[Row, int, int, float]


def _hit(answer: Answer) -> bool:
    """Whether the class that its rule calls is a target."""
    row, _, lead, p = answer
    return p < LEVEL and lead in aims(row)


def _cells(answers: list[Answer]) -> list[str]:
    """Working all-to-one attacks found, and clean models called backdoored, by either."""
    working = [a for a in answers if works(a[0]) and a[0]["target"] is not None]
    clean = [a for a in answers if a[0]["attack"] == "none"]
    return [
        rate(map(_hit, working)),
        rate(found(a[0]) for a in working),
        rate(p < LEVEL for *_, p in clean),
        rate(map(_called, clean)),
    ]


def _called(answer: Answer) -> bool:
    """Whether the whole scan calls the model backdoored."""
    return outcome(answer[0]) == "backdoored"
