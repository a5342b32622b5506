"""How well the printed probability of a backdoor holds: fitted to models that may be looked at, measured on held ones."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import minimize

from banscan.scanner import probability
from banscan.scanner.findings import FRAGILE
from bench import replay
from bench.rows import HELD, LOOKED
from bench.tables import header, learnt, works

Row = dict[str, Any]
BINS = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)
Numbers = np.ndarray[Any, np.dtype[np.float64]]


def scores(rows: list[Row]) -> tuple[Numbers, Numbers]:
    """Scores of networks that know their task, clean or with an attack that works, and whether there is one.

    Left out are those that the scan calls fragile or has no score of: their reports print no probability.
    """
    own = []
    for row in learnt(rows)[0]:
        verdict = replay.verdict(row)
        if verdict.score is not None and verdict.outcome != FRAGILE and (row["attack"] == "none" or works(row)):
            own.append((verdict.score, float(row["attack"] != "none")))
    return tuple(np.array(own or np.empty((0, 2))).T)  # type: ignore[return-value]


def fitted(found: Numbers, truth: Numbers) -> tuple[float, float]:
    """Intercept and slope of the logarithm of the score, both groups with the same weight.

    The truth is taken for as sure only as so many models can make it: (n + 1) / (n + 2) where n have a backdoor, 1 / (m + 2) where m have
    none (Platt 1999).
    """
    x = np.log(np.maximum(found, probability.SMALLEST))
    with_one, without = truth.sum(), (1 - truth).sum()
    sure = np.where(truth == 1, (with_one + 1) / (with_one + 2), 1 / (without + 2))
    weight = np.where(truth == 1, 0.5 / with_one, 0.5 / without)

    def loss(ab: Numbers) -> float:
        z = ab[0] + ab[1] * x
        return float((weight * (sure * np.logaddexp(0, -z) + (1 - sure) * np.logaddexp(0, z))).sum())

    intercept, slope = minimize(loss, np.array([0.0, 1.0])).x
    return float(intercept), float(slope)


def page(parts: Mapping[str, list[Row]]) -> list[str]:
    """The fit, Brier scores on held models, and how often each range of probabilities is right."""
    looked, held = (scores([row for part in group for row in parts[part]]) for group in (LOOKED, HELD))
    intercept, slope = fitted(*looked)
    said = np.array([probability.of_backdoor(score) for score in held[0]])
    error = (said - held[1]) ** 2
    with_one, without = (error[held[1] == truth] for truth in (1, 0))
    used = f"{probability.INTERCEPT:.2f}, {probability.SLOPE:.2f}"
    lines = [
        f"- fitted to {_models(looked[1])}: intercept {intercept:.2f}, slope {slope:.2f} (in use: {used})",
        f"- held: {_models(held[1])}; Brier score {error.mean():.3f}, {with_one.mean():.3f} with a backdoor, {without.mean():.3f} without",
        "",
        *header(["probability", "held models", "with a backdoor"]),
    ]
    for low, high in pairwise(BINS):
        inside = (said >= low) & ((said < high) | (high == BINS[-1]))
        lines.append(f"| {low:.0%} to {high:.0%} | {int(inside.sum())} | {int(held[1][inside].sum())} |")
    return lines


def _models(truth: Numbers) -> str:
    return f"{len(truth)} models, {int(truth.sum())} with a backdoor"
