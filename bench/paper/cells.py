"""A printed cell and what was measured for it: on the paper's data set where there are rows, or on another one, which is said."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import mean, pstdev
from typing import TypeVar

from scipy.stats import binomtest

from bench.paper.printed import SETS, Key
from bench.paper.store import OURS, PAPER, REPAIRED, Mend, Model, Scan, seeds

NO_ROWS = "no rows"
NAMES = {name: word for word, name in SETS.items()} | {"gtsrb20": "20 classes of GTSRB"}
# data sets that may stand in for the one of a whole table, nearest first; a table that compares data sets has none
STANDING_IN = {"cifar10": ("gtsrb",)}
# form of noise and effort of the scans that fill cells; the other form has a table of its own
USUAL = ("normalised", "thorough")
T = TypeVar("T", Scan, Mend)
# the width that the paper's networks have
FULL = 64


@dataclass(frozen=True)
class Detected:
    """How many of some models are called backdoored, and of attacked ones with the right target; `on` says what is not as in the paper."""

    count: int
    flagged: int
    right: int | None
    seeds: str
    on: str
    own: bool

    @property
    def success(self) -> int:
        """Models that are judged as the paper counts it: clean ones not called, attacked ones called with whatever target."""
        return self.count - self.flagged if self.right is None else self.flagged


@dataclass(frozen=True)
class Repaired:
    """Benign accuracy and ASR of some models, as shares."""

    accuracies: tuple[float, ...]
    rates: tuple[float, ...]
    seeds: str
    on: str
    own: bool


def detected(scans: Sequence[Scan], method: str, key: Key) -> Detected | None:
    """What a method says of the models of a line; None without rows."""
    fitting = [
        s for s in scans if s.method == method and not s.tried and s.model.fits(key) and (method != OURS or (s.form, s.effort) == USUAL)
    ]
    own = _nearest(fitting, key)
    if not own:
        return None
    right = None if key.attack == "none" else sum(bool(s.right) for s in own)
    models = [s.model for s in own]
    return Detected(len(own), sum(s.flagged for s in own), right, seeds(models), on(models, key), models[0].set == key.set)


def repaired(mends: Sequence[Mend], method: str, key: Key, parts: tuple[str, ...] = ("repair", PAPER)) -> Repaired | None:
    """Accuracy and ASR after a repair, or before any for "No defense"; None without rows."""
    wanted = REPAIRED.get(method)
    before = method == "No defense"
    if not before and wanted is None:
        return None
    settings = wanted if key.settings is None else as_ours(key.settings)
    fitting = [m for m in mends if m.part in parts and m.model.fits(key) and (before or m.settings == settings)]
    own = list({m.model.name: m for m in _nearest(fitting, key)}.values())
    if not own:
        return None
    values = [m.before if before else m.after for m in own]
    models = [m.model for m in own]
    accuracies, rates = zip(*values, strict=True)
    return Repaired(accuracies, rates, seeds(models), on(models, key), models[0].set == key.set)


def as_ours(settings: str) -> str:
    """The settings of a line of Table 7 as `repair.label` tells those that are not our own usual ones (0.01, 25 epochs, lambda_2 0.5)."""
    lr, epochs, weight = (float(part.split()[1]) for part in settings.split(", "))
    changed = [
        *([f"lambda_2 {weight:g}"] if weight != 0.5 else []),
        *([f"epochs {epochs:g}"] if epochs != 25 else []),
        *([f"learning rate {lr:g}"] if lr != 0.01 else []),
    ]
    return ", ".join(["ban", *changed])


def _nearest(records: Sequence[T], key: Key) -> list[T]:
    """Those on the line's data set; where there are none, those on the first other that stands in for it."""
    for name in (key.set, *STANDING_IN.get(key.set, ())):
        own = [r for r in records if r.model.set == name]
        if own:
            return own
    return []


def on(models: Iterable[Model], key: Key) -> str:
    """What of the models is not as in the paper: data set and width."""
    models = list(models)
    set_ = "" if models[0].set == key.set else f"{NAMES[models[0].set]} instead of {NAMES[key.set]}, "
    widths = sorted({m.width for m in models})
    narrow = f"width {' and '.join(map(str, widths))} of {FULL}" if widths != [FULL] else "full width"
    return set_ + narrow


def interval(hits: int, count: int) -> str:
    """Wilson's 95 % interval of a share."""
    found = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{found.low:.0%}–{found.high:.0%}"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of shares, in percent."""
    return f"{100 * mean(values):.2f}" + (f" ± {100 * pstdev(values):.2f}" if len(values) > 1 else "")


def number(value: float, gap: float = float("nan"), digits: int = 2) -> str:
    """A printed number, with its spread where one is printed."""
    shown = "–" if isnan(value) else f"{value:.{digits}f}"
    return shown if isnan(gap) else f"{shown} ± {gap:.2f}"
