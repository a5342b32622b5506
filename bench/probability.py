"""How well the printed probability of a backdoor holds: fitted to models that may be looked at, measured on held ones."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import minimize

from banscan.scanner import probability
from banscan.scanner.findings import FRAGILE
from bench import kinds, replay
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
    """The fit, Brier scores on held models and on unknown kinds of attack, and how often each range of probabilities is right."""
    looked, held = (scores([row for part in group for row in parts[part]]) for group in (LOOKED, HELD))
    others = scores(kinds.by_default(parts["effort"]))
    intercept, slope = fitted(*looked)
    used = f"{probability.INTERCEPT:.2f}, {probability.SLOPE:.2f}"
    lines = [
        f"- fitted to {_models(looked[1])}: intercept {intercept:.2f}, slope {slope:.2f} (in use: {used})",
        _brier("held", *held),
        _brier("attacks of kinds that nothing was tried on, and clean models beside them, as a scan is by default", *others),
        "",
        *header(["probability", "held models", "with a backdoor", "of unknown kinds", "with a backdoor"]),
    ]
    groups = [(_said(found), truth) for found, truth in (held, others)]
    for low, high in pairwise(BINS):
        cells = []
        for said, truth in groups:
            inside = (said >= low) & ((said < high) | (high == BINS[-1]))
            cells += [str(int(inside.sum())), str(int(truth[inside].sum()))]
        lines.append(f"| {low:.0%} to {high:.0%} | {' | '.join(cells)} |")
    return lines


def _said(found: Numbers) -> Numbers:
    """What reports print of these scores."""
    return np.array([probability.of_backdoor(score) for score in found])


def _brier(what: str, found: Numbers, truth: Numbers) -> str:
    error = (_said(found) - truth) ** 2
    each = ", ".join(f"{error[truth == one].mean():.3f} {words}" for one, words in ((1, "with a backdoor"), (0, "without")))
    return f"- {what}: {_models(truth)}; Brier score {error.mean():.3f}, {each}"


def _models(truth: Numbers) -> str:
    return f"{len(truth)} models, {int(truth.sum())} with a backdoor"
