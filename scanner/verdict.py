"""From evidence to a verdict, by outlier tests whose false-positive rate follows from the number of classes alone.

No threshold here was fitted to models: the classes of one model are each other's reference. On a clean model, noise aimed at each class
in turn reaches the classes about equally well, with a spread that is close to normal; a backdoor makes one class stand out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from torch import Tensor

from banscan.scanner.evidence import Evidence

# Probability that a model whose classes differ only by chance is called backdoored, or suspicious.
BACKDOORED = 0.005
SUSPICIOUS = 0.02
# a share this small or large is as good as none or all: a few images in a thousand
SMALLEST = 0.002
# a map with more mutual pairs than this is likeness; a random one-to-one map has 1 class in as many as there are
MUTUAL = 0.1
# with fewer classes the test has next to no power
MIN_CLASSES = 5


@dataclass(frozen=True)
class Verdict:
    """The outcome with the numbers behind it.

    Attributes:
        outcome: "backdoored", "suspicious", "no backdoor found" or "inconclusive".
        kind: "all-to-one" or "all-to-all" for the first two.
        target: the target class of an all-to-one backdoor.
        mapping: source class → attacked class of an all-to-all backdoor.
        p_value: probability of evidence this strong when the classes differ only by chance; None when inconclusive.
        statistic: the leading class's outlier statistic over the mean of the restarts, `restarts` the same in every one.
        threshold: the statistic at which the p-value reaches BACKDOORED.
        reason: one sentence.
    """

    outcome: str
    reason: str
    kind: str | None = None
    target: int | None = None
    mapping: tuple[tuple[int, int], ...] = ()
    p_value: float | None = None
    statistic: float | None = None
    restarts: tuple[float, ...] = ()
    threshold: float | None = None


def judge(evidence: Evidence) -> Verdict:
    """The verdict on an all-to-one and on an all-to-all backdoor."""
    count = len(evidence.targets)
    if count < MIN_CLASSES:
        return inconclusive(f"{count} classes are too few to tell an outlier among them; at least {MIN_CLASSES} are needed")
    statistics = outlier(log_odds(evidence.moved.mean(0)))
    lead = int(statistics.argmax())
    each = outlier(log_odds(evidence.moved))
    classes = len(evidence.clean_shares)
    p = outlier_p(float(statistics[lead]), count, classes)
    always_first = bool((each.argmax(1) == lead).all())
    target = int(evidence.targets[lead])
    moved = float(evidence.moved[:, lead].mean())
    median = float(evidence.moved.mean(0).median())
    mapping = map_test(evidence.clean_margins) if count == classes else None
    numbers = {
        "p_value": p,
        "statistic": float(statistics[lead]),
        "restarts": tuple(float(v) for v in each[:, lead]),
        "threshold": outlier_threshold(BACKDOORED, count, classes),
    }
    seen = f"noise aimed at class {target} moves {moved:.0%} of the other classes' images there, against {median:.0%} for the median class"
    if p <= BACKDOORED and always_first:
        return Verdict("backdoored", seen, "all-to-one", target, **numbers)  # type: ignore[arg-type]
    if mapping is not None and mapping.p_value <= SUSPICIOUS and mapping.mutual <= MUTUAL:
        reason = (
            f"the runner-up classes of the clean images form a one-to-one map (p = {mapping.p_value:.1e}) with only {mapping.mutual:.0%} "
            "mutual pairs, as an all-to-all attack leaves it and likeness does not"
        )
        outcome = "backdoored" if mapping.p_value <= BACKDOORED else "suspicious"
        pairs = tuple((source, attacked) for source, attacked in enumerate(mapping.attacked))
        # the numbers of this test take the place of the other's
        return Verdict(outcome, reason, "all-to-all", None, pairs, mapping.p_value, mapping.statistic, (), -float(ndtri(BACKDOORED)))
    if p <= SUSPICIOUS:
        how = "in every restart" if always_first else f"in {int((each.argmax(1) == lead).sum())} of {len(each)} restarts"
        return Verdict("suspicious", f"{seen}; it leads {how}", "all-to-one", target, **numbers)  # type: ignore[arg-type]
    return Verdict("no backdoor found", "no class is easier to reach by neuron noise than chance explains", **numbers)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Mapping:
    """The strongest one-to-one map from classes to attacked classes, against chance: z statistic, p-value, share of mutual pairs."""

    attacked: tuple[int, ...]
    statistic: float
    p_value: float
    mutual: float


def map_test(margins: Tensor, shuffles: int = 200) -> Mapping | None:
    """Do the classes that images lean to form a one-to-one map, as an all-to-all backdoor (y to y + 1, say) leaves it?

    Row and column means are taken off the table [T, S] and every source's column is scaled; then the best one-to-one map is compared
    with that of tables whose columns are shuffled, which have the same values but no common map. Likeness between classes makes maps as
    well, but mutual ones (a to b and b to a), so the share of mutual pairs goes with the answer. None where a class has no images.
    """
    count = len(margins)
    others = ~np.eye(count, dtype=bool)
    table = margins.double().numpy()
    if np.isnan(table[others]).any():
        return None
    values = _standardise(table)
    score, attacked = _best_map(values)
    rng = np.random.default_rng(0)
    chance = []
    for _ in range(shuffles):
        shuffled = np.full_like(values, np.nan)
        for c in range(count):
            shuffled[others[:, c], c] = rng.permutation(values[others[:, c], c])
        chance.append(_best_map(_standardise(shuffled))[0])
    z = (score - float(np.mean(chance))) / max(float(np.std(chance)), 1e-12)
    mutual = float(np.mean([attacked[attacked[c]] == c for c in range(count)]))
    return Mapping(tuple(attacked), z, float(ndtr(-z)), mutual)


def _standardise(table: np.ndarray) -> np.ndarray:
    """Row and column means taken off, columns scaled to one spread; NaN on the diagonal is left out."""
    table = table.copy()
    np.fill_diagonal(table, np.nan)
    for _ in range(10):
        table -= np.nanmean(table, 1, keepdims=True)
        table -= np.nanmean(table, 0, keepdims=True)
    scaled: np.ndarray = table / np.maximum(np.sqrt(np.nanmean(table**2, 0, keepdims=True)), 1e-12)
    return scaled


def _best_map(table: np.ndarray) -> tuple[float, list[int]]:
    """The map from columns to rows with the largest mean, the diagonal left out, and that mean."""
    rows, columns = linear_sum_assignment(np.where(np.isnan(table), 1e6, -table))
    return float(table[rows, columns].mean()), [int(r) for r in rows[np.argsort(columns)]]


def inconclusive(reason: str) -> Verdict:
    return Verdict("inconclusive", reason)


def log_odds(share: Tensor) -> Tensor:
    """The logarithm of share / (1 - share), where differences between classes spread evenly; held away from 0 and 1."""
    return share.double().clamp(SMALLEST, 1 - SMALLEST).logit()


def outlier(values: Tensor) -> Tensor:
    """The deleted studentised residual of each value among the others on the last axis (the outlier test of Grubbs 1950).

    t_i = (v_i - mean of the others) / (standard deviation of the others * sqrt(1 + 1 / (n - 1))): Student's t with n - 2 degrees of freedom
    for normal values.
    """
    values = values.double()
    n = values.shape[-1]
    rest = (values.sum(-1, keepdim=True) - values) / (n - 1)
    total = values.square().sum(-1, keepdim=True) - values.square()
    variance = ((total - (n - 1) * rest.square()) / (n - 2)).clamp(min=1e-300)
    return (values - rest) / (variance * (1 + 1 / (n - 1))).sqrt()


def outlier_p(statistic: float, count: int, classes: int) -> float:
    """Probability that one of `classes` normal values, compared with `count` of them, is this much of an outlier (Bonferroni's bound)."""
    return min(1.0, classes * float(stdtr(count - 2, -statistic)))


def outlier_threshold(p: float, count: int, classes: int) -> float:
    """The statistic whose `outlier_p` is p."""
    return -float(stdtrit(count - 2, p / classes))
