"""From evidence to a verdict, by outlier tests whose false-positive rate follows from the number of classes alone.

No threshold here was fitted to models: the classes of one model are each other's reference. On a clean model every statistic is spread
over the classes about normally; a backdoor makes one class stand out. Which statistic shows it depends on the attack, so there are
several, and the p-value pays for their number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy.special import betaincinv, stdtr, stdtrit
from torch import Tensor

from banscan.scanner.evidence import Evidence
from banscan.scanner.pixel_evidence import PixelEvidence
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.search.patch import LEFT
from banscan.scanner.search.universal import SOFTNESS

# Probability that a model whose classes differ only by chance is called backdoored, or suspicious.
BACKDOORED = 0.005
SUSPICIOUS = 0.02
# a share this small or large is as good as none or all: one image of those that a scan takes
SMALLEST = 0.002
# noise that moves fewer images than this to the median class, or all but so few, reaches all classes alike
BLIND = 0.05
# share of the images that one change moves along a one-to-one map of classes: so many have no innocent reason
MAPPED = 0.6
# the same of one small patch and one class, as a lower confidence bound, unless patches do half as much for the median class
PATCHED = 0.5
# with fewer classes the tests have next to no power
MIN_CLASSES = 5
# several targets hide one another: up to one class in so many may stand out together
TOGETHER = 4
# a class that images can be pushed to furthest is often one that everything likes: alone, this test says no more than "suspicious"
NEVER_ALONE = "margin"
# the tests whose values are log-odds of shares
SHARES = ("noise", "perturbation", "patch")
NAMES = {
    "noise": "neuron noise aimed at it moves the other classes' images there",
    "logit": "images of other classes have a raised logit for it",
    "margin": "some images make the model surer of it than of any other class",
    "perturbation": "one perturbation of all pixels moves the other classes' images there",
    "patch": "one small patch moves the other classes' images there",
    "joint": "all the others together single it out",
}


@dataclass(frozen=True)
class Test:
    """One outlier test over the classes.

    Attributes:
        name: one of NAMES.
        target: the class that stands out most.
        statistic: the outlier statistic of the last of the classes that stand out together, mostly the only one, of the mean over restarts;
            `restarts` the same in every one, where there are several.
        p_value: Bonferroni's bound over the classes and the tests, of whose level the joint test has half.
        threshold: the statistic at which `p_value` reaches BACKDOORED.
        steady: whether the same classes lead in every restart.
        others: the classes that stand out beside `target`.
    """

    name: str
    target: int
    statistic: float
    restarts: tuple[float, ...]
    p_value: float
    threshold: float
    steady: bool
    others: tuple[int, ...] = ()

    @property
    def named(self) -> tuple[int, ...]:
        """All classes that stand out."""
        return (self.target, *self.others)


@dataclass(frozen=True)
class Verdict:
    """The outcome with the numbers behind it.

    Attributes:
        outcome: "backdoored", "suspicious", "no backdoor found" or "inconclusive".
        kind: "all-to-one" or "all-to-all" for the first two.
        target: the target class of an all-to-one backdoor; `others`, those of further ones that the same test sees.
        mapping: source class → attacked class of an all-to-all backdoor.
        p_value: probability of evidence this strong when the classes differ only by chance, of the test that decided; where none or
            one of the limits did, the smallest of the tests that may. None when inconclusive before the tests.
        test: the name of the test that decided, "patch share", "map" or "clearness" where one of the limits did.
        tests: all of them.
        score: what the verdict rests on, 1 at the threshold of either kind; None when inconclusive before the tests.
        reason: one sentence.
    """

    outcome: str
    reason: str
    kind: str | None = None
    target: int | None = None
    mapping: tuple[tuple[int, int], ...] = ()
    p_value: float | None = None
    test: str | None = None
    tests: tuple[Test, ...] = ()
    score: float | None = None
    others: tuple[int, ...] = ()

    @property
    def named(self) -> tuple[int, ...]:
        """All target classes."""
        return () if self.target is None else (self.target, *self.others)


def judge(evidence: Evidence, pixels: PixelEvidence | None, limit: float | None = None) -> Verdict:
    """The verdict on an all-to-one and on an all-to-all backdoor.

    Args:
        pixels: None where that search was left out.
        limit: of a calibration, which takes the place of the thresholds: backdoored where the score exceeds it, and nothing is suspicious.
    """
    count = len(evidence.targets)
    if count < MIN_CLASSES:
        return inconclusive(f"{count} classes are too few to tell an outlier among them; at least {MIN_CLASSES} are needed")
    tests = run_tests(evidence, pixels)
    best = deciding(tests)
    by, mapped = leading_map(evidence, pixels)
    one, every = one_score(best), 0.0 if mapped is None else share_score(mapped.moved, MAPPED)
    at, _, patched = (0, 0.0, 0.0) if pixels is None else patch_score(pixels.patch_moved, pixels.patch_success, pixels.patch_images)
    clearest, _, clear = (0, 0.0, 0.0) if pixels is None else clear_score(pixels.success)
    score = max(one, patched, every, clear)

    def called(reason: str, test: str, target: int | None = None, mapping: tuple[tuple[int, int], ...] = ()) -> Verdict:
        kind = "all-to-all" if mapping else "all-to-one"
        return Verdict("backdoored", reason, kind, target, mapping, best.p_value, test, tests, score)

    def enough(value: float) -> bool:
        return value >= 1 if limit is None else value > limit

    # an all-to-all trigger moves one class more than another, but one to a single class moves nothing along a map
    if mapped is not None and enough(every):
        reason = (
            f"{by} moves {mapped.moved:.0%} of the images it was not made on along a one-to-one map of the classes, as an all-to-all "
            "trigger does"
        )
        return called(reason, "map", mapping=tuple(enumerate(mapped.attacked)))
    if enough(one):
        return replace(called(_reason(best, evidence, pixels), best.name, best.target), others=best.others)
    if pixels is not None and enough(patched):
        target = int(evidence.targets[at])
        reason = (
            f"one patch of at most {LEFT} cells moves {pixels.patch_moved[at]:.0%} of the images that it was not made on to class "
            f"{target}, against {pixels.patch_moved.median():.0%} for the median class"
        )
        return called(reason, "patch share", target)
    if pixels is not None and enough(clear):
        target = int(evidence.targets[clearest])
        reason = (
            f"one perturbation moves {pixels.moved[clearest]:.0%} of the other classes' images to class {target}, and the model is as sure "
            "of them as of clean images"
        )
        return called(reason, "clearness", target)
    for test in (best, leading(tests)):
        if limit is None and test.steady and test.p_value <= SUSPICIOUS:
            reason = _reason(test, evidence, pixels)
            return Verdict("suspicious", reason, "all-to-one", test.target, (), test.p_value, test.name, tests, score, test.others)
    blind = _blind(evidence)
    if blind is not None:
        return Verdict("inconclusive", blind, p_value=best.p_value, test=best.name, tests=tests, score=score)
    reason = "no class stands out further than chance explains" if limit is None else "no class stands out further than in clean models"
    return Verdict("no backdoor found", reason, p_value=best.p_value, test=best.name, tests=tests, score=score)


def leading_map(evidence: Evidence, pixels: PixelEvidence | None) -> tuple[str, Mapped | None]:
    """The map of classes that moves more images, and what moves them: noise on neurons or a perturbation of pixels."""
    maps = [("neuron noise", evidence.mapped), ("one perturbation", None if pixels is None else pixels.mapped)]
    return max(maps, key=lambda pair: 0.0 if pair[1] is None else pair[1].moved)


def leading(tests: Sequence[Test]) -> Test:
    """The first of these tests; a class that does not lead in every restart is an accident of one of them."""
    return min(tests, key=lambda t: (not t.steady, t.p_value, -t.statistic))


def deciding(tests: Sequence[Test]) -> Test:
    """The first of the tests that may call a model backdoored by themselves."""
    return leading([t for t in tests if t.name != NEVER_ALONE])


def one_score(test: Test) -> float:
    """1 where the test's p-value reaches BACKDOORED, growing with its logarithm."""
    return math.log(max(test.p_value, 1e-300)) / math.log(BACKDOORED) if test.steady else 0.0


def share_score(moved: float, limit: float) -> float:
    """1 where the share reaches its limit. The cube keeps shares that likeness of classes explains below the scores of clean classes."""
    return (moved / limit) ** 3


def patch_score(moved: Tensor, success: Tensor, images: int) -> tuple[int, float, float]:
    """Where patches move most images [T], what share of all images it is at least, and `share_score` of that.

    Of classes that patches move equally many images to, it is the one with the larger `success` [T], that they are moved to more clearly.
    The bound is that of Clopper and Pearson for the best of T classes, which fails with probability BACKDOORED. The score is 0 where
    patches move half as many images to the median class: such networks are fragile, not backdoored.
    """
    lead = max(range(len(moved)), key=lambda t: (float(moved[t]), float(success[t])))
    hits = round(float(moved[lead]) * images)
    least = float(betaincinv(hits, images - hits + 1, BACKDOORED / len(moved))) if hits else 0.0
    return lead, least, share_score(least, PATCHED) if float(moved[lead]) > 2 * float(moved.median()) else 0.0


def clear_score(success: Tensor) -> tuple[int, float, float]:
    """The class that one perturbation moves images to most clearly, the limit of `success` [T], and its odds over those of the limit.

    The limit is what an image counts that has the median margin of clean images: the perturbed images are no longer near the border
    between two classes, as those of a forced misclassification are. Where the median class is reached at better than even odds, the odds
    have to be better in proportion: such networks are fragile, not backdoored.
    """
    odds = log_odds(success)
    limit = 1 / SOFTNESS + float(odds.median().clamp(min=0))
    lead = int(odds.argmax())
    return lead, 1 / (1 + math.exp(-limit)), math.exp(float(odds[lead]) - limit)


def statistics(evidence: Evidence, pixels: PixelEvidence | None) -> dict[str, Tensor]:
    """The values [K, T] that each test compares, a row per restart."""
    values = {"noise": log_odds(evidence.moved), "logit": evidence.clean_logits[None].double()}
    if pixels is not None:
        # the root evens out a spread that grows with the margin
        values["margin"] = pixels.largest.double().clamp(min=0).sqrt()
        values["perturbation"] = log_odds(pixels.success)[None]
        values["patch"] = log_odds(pixels.patch_success)[None]
    scaled = [standardise(v.mean(0), finest(name, v.mean(0))) for name, v in values.items()]
    values["joint"] = torch.stack(scaled).sum(0)[None]
    return values


def run_tests(evidence: Evidence, pixels: PixelEvidence | None) -> tuple[Test, ...]:
    """One outlier test per statistic."""
    values = statistics(evidence, pixels)
    # Bonferroni's, with half of the level for the one test that sees everything
    parts = {name: 2 if name == "joint" else 2 * (len(values) - 1) for name in values}
    return tuple(_tested(name, rows, evidence.targets, len(evidence.clean_shares), parts[name]) for name, rows in values.items())


def _tested(name: str, rows: Tensor, targets: Tensor, classes: int, parts: int) -> Test:
    """The test of values [K, T], a row per restart, of the `targets` [T] among `classes`."""
    mean = rows.mean(0)
    order = mean.argsort(descending=True, stable=True)
    least = finest(name, mean)
    count, statistic, p = together(mean[order], classes, parts, least)
    rest, lead = order[count - 1 :], order[:count].sort().values
    each = outlier(rows[:, rest], least)[:, 0].tolist()
    first, *others = targets[order[:count]].tolist()
    steady = bool((rows.topk(count).indices.sort(1).values == lead).all())
    threshold = outlier_threshold(BACKDOORED, len(rest), parts * (classes - count + 1))
    return Test(name, first, statistic, tuple(each) if len(each) > 1 else (), p, threshold, steady, tuple(others))


def together(values: Tensor, classes: int, parts: int, least: float = 0.0) -> tuple[int, float, float]:
    """How many of the values [T], in falling order, stand out together; the outlier statistic of the last of these, and its p-value.

    Outliers hide one another: each widens the spread that the others are measured by. So the largest is compared with all the others, the
    second with those below it, and so on (the generalised test of Rosner 1983), and what stands out at a later step counts if it is
    suspicious. The level needs no payment for the steps: a second value seldom stands out by chance where the first does not.
    """

    def step(first: int) -> tuple[float, float, int]:
        left = values[first:]
        statistic = float(outlier(left, least)[0])
        return outlier_p(statistic, len(left), parts * (classes - first)), -statistic, first + 1

    alone, *further = (step(first) for first in range(max(1, len(values) // TOGETHER)))
    p, negative, count = min([alone, *(s for s in further if s[0] <= SUSPICIOUS)])
    return count, -negative, p


def _reason(test: Test, evidence: Evidence, pixels: PixelEvidence | None) -> str:
    """What the deciding test saw, with its numbers."""
    seen, also = _seen(test, evidence, pixels), ", ".join(map(str, test.others))
    if also:
        seen += f"; {f'class {also} stands' if len(test.others) == 1 else f'classes {also} stand'} out as well"
    return seen


def _seen(test: Test, evidence: Evidence, pixels: PixelEvidence | None) -> str:
    at = int((evidence.targets == test.target).nonzero()[0, 0])

    def against(values: Tensor, form: str) -> str:
        return f"{values[at]:{form}}, against {values.median():{form}} for the median class"

    if test.name == "noise":
        seen = against(evidence.moved.mean(0), ".0%")
        return f"noise aimed at class {test.target} moves this share of the other classes' images there: {seen}"
    if test.name == "logit":
        return f"images of other classes give class {test.target} a mean logit of {against(evidence.clean_logits, '.1f')}"
    if pixels is not None and test.name == "margin":
        seen = against(pixels.largest.mean(0), ".1f")
        return f"images can be made that the model takes for class {test.target} by a margin of {seen}; no other test stands by it"
    if pixels is not None and test.name == "perturbation":
        seen = against(pixels.moved, ".0%")
        return f"one perturbation aimed at class {test.target} moves this share of the other classes' images there: {seen}"
    if pixels is not None and test.name == "patch":
        seen = against(pixels.patch_moved, ".0%")
        return f"one small patch moves this share of the other classes' images to class {test.target}: {seen}"
    return f"class {test.target} is singled out by all tests together"


def _blind(evidence: Evidence) -> str | None:
    """Why the noise cannot tell the classes apart; None where it can."""
    reached = float(evidence.moved.mean(0).median())
    if BLIND <= reached <= 1 - BLIND:
        return None
    amount, other = ("few", "larger") if reached < BLIND else ("many", "smaller")
    return (
        f"no class stands out, but noise of strength {evidence.eps:.2g} moves {reached:.0%} of the other classes' images to the median "
        f"class, too {amount} to tell classes apart; try a {other} --eps"
    )


def inconclusive(reason: str) -> Verdict:
    return Verdict("inconclusive", reason)


def uncovered(verdict: Verdict, why: str) -> Verdict:
    """The same evidence without a verdict: nobody knows what clean models of this kind look like."""
    seen = verdict.reason if verdict.outcome != "no backdoor found" else "no class stands out"
    reason = f"{seen}; but what clean models like this one show was not measured: {why}; give your own with --calibration"
    return replace(verdict, outcome="inconclusive", reason=reason)


def log_odds(share: Tensor) -> Tensor:
    """The logarithm of share / (1 - share), where differences between classes spread evenly; held away from 0 and 1."""
    return share.double().clamp(SMALLEST, 1 - SMALLEST).logit()


def finest(test: str, values: Tensor) -> float:
    """The spread of a test's values [T] that counting images leaves between equal classes.

    A share q of 1 / SMALLEST images has a binomial standard deviation of sqrt(SMALLEST q (1 - q)), its log-odds one of this over q (1 - q).
    """
    if test not in SHARES:
        return 0.0
    middle = float(values.double().median().sigmoid())
    return math.sqrt(SMALLEST / (middle * (1 - middle)))


def outlier(values: Tensor, least: float = 0.0) -> Tensor:
    """The deleted studentised residual of each value among the others on the last axis (the outlier test of Grubbs 1950).

    t_i = (v_i - mean of the others) / (standard deviation of the others * sqrt(1 + 1 / (n - 1))): Student's t with n - 2 degrees of freedom
    for normal values. The standard deviation is at least `least`.
    """
    values = values.double()
    n = values.shape[-1]
    rest = (values.sum(-1, keepdim=True) - values) / (n - 1)
    total = values.square().sum(-1, keepdim=True) - values.square()
    variance = ((total - (n - 1) * rest.square()) / (n - 2)).clamp(min=max(least**2, 1e-300))
    return (values - rest) / (variance * (1 + 1 / (n - 1))).sqrt()


def standardise(values: Tensor, least: float) -> Tensor:
    """Values [T] with their mean taken off, in units of their standard deviation, which is at least `least`; all alike, all zero."""
    centred = values - values.mean()
    result: Tensor = centred / centred.std().clamp(min=max(least, 1e-12))
    return result


def outlier_p(statistic: float, count: int, classes: int) -> float:
    """Probability that one of `classes` normal values, compared with `count` of them, is this much of an outlier (Bonferroni's bound)."""
    return min(1.0, classes * float(stdtr(count - 2, -statistic)))


def outlier_threshold(p: float, count: int, classes: int) -> float:
    """The statistic whose `outlier_p` is p."""
    return -float(stdtrit(count - 2, p / classes))
