"""The joint test: its level on clean models, and what other ways to add the tests up would find, each kind of attack left out in turn."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from scipy.optimize import minimize
from scipy.special import stdtr
from torch import Tensor

from banscan.scanner.criteria.joint import deviate
from banscan.scanner.criteria.outlier import outlier, together
from banscan.scanner.levels import BACKDOORED
from bench import replay
from bench.kinds import KIND
from bench.rows import HELD, LOOKED
from bench.tables import aims, header, learnt, rate, works
from bench.zoo.lists import KINDS

Row = dict[str, Any]
# what the joint test has of the level of a backdoor
LEVEL = BACKDOORED / 2
LEVELS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
TESTS = ("noise", "logit", "margin", "perturbation", "patch")
# of the weights, in units of the mean loss of a class
RIDGE = 0.005


def page(parts: Mapping[str, list[Row]]) -> list[str]:
    """How often clean models get a small p-value, and what ways to add up find by kind."""
    rows = {part: [row for row in learnt(parts[part])[0] if _values(row) is not None] for part in (*LOOKED, *HELD)}
    looked, held = ([row for part in group for row in rows[part]] for group in (LOOKED, HELD))
    lines = ["## Level", "", *header(["clean models", *(f"p ≤ {level:g}" for level in LEVELS)])]
    for name, own in (("those that may be looked at", looked), ("held ones", held)):
        p = [_fisher(row)[1] for row in own if row["attack"] == "none"]
        lines.append(f"| {name}, {len(p)} | {' | '.join(str(sum(each <= level for each in p)) for level in LEVELS)} |")
    lines += ["", "## Ways to add up", "", *header(["kind", "models", "equal weights", "learnt weights", "Fisher, as in the scan"])]
    attacked = [row for row in (*looked, *held) if works(row) and row["target"] is not None]
    for kind in KINDS:
        own = [row for row in attacked if KIND[row["attack"]] == kind]
        if own:
            ways = _ways(learn([row for row in looked if KIND.get(row["attack"]) != kind]))
            cells = [sum(p <= LEVEL and first in aims(row) for row in own for first, p in [way(row)]) for way in ways]
            lines.append(f"| {kind} | {len(own)} | {' | '.join(map(str, cells))} |")
    weights = learn(looked)
    clean = [row for row in (*looked, *held) if row["attack"] == "none"]
    calls = [rate(way(row)[1] <= LEVEL for row in clean) for way in _ways(weights)]
    lines.append(f"| clean, called | {len(clean)} | {' | '.join(calls)} |")
    said = ", ".join(f"{name} {float(w):.2f}" for name, w in zip(TESTS, weights, strict=True))
    return [*lines, "", f"Weights learnt from all models that may be looked at: {said}."]


def _values(row: Row) -> Tensor | None:
    """What the five tests compare [5, T]; None where one was not done."""
    found = {f.criterion: f.values for f in replay.as_stored(row)}
    if not all(found.get(name) for name in TESTS):
        return None
    return torch.tensor([found[name] for name in TESTS], dtype=torch.float64)


def deviates(values: Tensor) -> Tensor:
    """Outlier statistics of values [n, T] as normal deviates."""
    return deviate(torch.from_numpy(stdtr(values.shape[1] - 2, -outlier(values).numpy())))


def learn(rows: list[Row]) -> Tensor:
    """Weights [5] by which targets are told from all other classes (logistic regression; classes of clean models are no targets)."""
    inputs, truth = [], []
    for row in rows:
        single = works(row) and row["target"] is not None
        values = _values(row)
        if values is not None and (single or row["attack"] == "none"):
            inputs.append(deviates(values).T)
            truth.append(torch.tensor([float(single and c in aims(row)) for c in range(values.shape[1])]))
    x, sign = torch.cat(inputs).numpy(), (2 * torch.cat(truth).double() - 1).numpy()

    def loss(w: Any) -> tuple[float, Any]:
        margin = torch.from_numpy(sign * (x @ w[:-1] + w[-1]))
        slope = (-(-margin).sigmoid() * torch.from_numpy(sign) / len(x)).numpy()
        value = float(torch.nn.functional.softplus(-margin).mean()) + RIDGE * float((w[:-1] ** 2).sum())
        return value, [*(x.T @ slope + 2 * RIDGE * w[:-1]), slope.sum()]

    return torch.from_numpy(minimize(loss, [0.0] * (x.shape[1] + 1), jac=True).x[:-1])


def _ways(weights: Tensor) -> tuple[Callable[[Row], tuple[int, float]], ...]:
    """Each way to add up: from a row to the class in front and its p-value, paid for the classes."""
    return (lambda row: _standing(row, _equal), lambda row: _standing(row, lambda values: weights @ deviates(values)), _fisher)


def _equal(values: Tensor) -> Tensor:
    """Every test standardised over the classes, summed up."""
    return ((values - values.mean(1, keepdim=True)) / values.std(1, keepdim=True)).sum(0)


def _standing(row: Row, add: Callable[[Tensor], Tensor]) -> tuple[int, float]:
    values = _values(row)
    assert values is not None
    (first, *_), _, p = together(lambda places: add(values[:, places]), values.shape[1], values.shape[1], 1)
    return first, p


def _fisher(row: Row) -> tuple[int, float]:
    _, ((first, *_), _, p) = replay.alone(row, "joint")
    return first, p
