"""How values follow the logits of an image: rising, falling or the same for all classes, and the arithmetic of that."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

INF = math.inf


@dataclass(frozen=True)
class Trend:
    """How the values of an image follow its logits.

    Attributes:
        direction: 1 where a larger logit gives a larger or an equal value, -1 where it gives a smaller or an equal one, 0 where all classes
            share the value.
        low, high: between which the values lie.
        label: whether they tell which class is first, instead of a value for each.
        classes: how many values there are for an image; one logit may stand for two classes.
    """

    direction: int
    low: float = -INF
    high: float = INF
    label: bool = False
    classes: int = 0


# one value → one value, never decreasing, from this number on
INCREASING: dict[str, tuple[Callable[[float], float], float]] = {
    "exp": (lambda v: math.exp(min(v, 700.0)) if v < INF else INF, -INF),
    "exp2": (lambda v: 2.0 ** min(v, 1000.0) if v < INF else INF, -INF),
    "expm1": (lambda v: math.expm1(min(v, 700.0)) if v < INF else INF, -INF),
    "log": (lambda v: math.log(v) if v > 0 else -INF, 0.0),
    "log2": (lambda v: math.log2(v) if v > 0 else -INF, 0.0),
    "log10": (lambda v: math.log10(v) if v > 0 else -INF, 0.0),
    "log1p": (lambda v: math.log1p(v) if v > -1 else -INF, -1.0),
    "sqrt": (lambda v: math.sqrt(max(v, 0.0)), 0.0),
    "sigmoid": (lambda v: 1 / (1 + math.exp(min(700.0, max(-700.0, -v)))), -INF),
    "log_sigmoid": (lambda v: -INF if v == -INF else min(0.0, v), -INF),
    "softplus": (lambda v: max(0.0, v), -INF),
    "tanh": (math.tanh, -INF),
    "relu": (lambda v: max(0.0, v), -INF),
    "nan_to_num": (lambda v: v, -INF),
    "round": (lambda v: v if math.isinf(v) else math.floor(v), -INF),
    "floor": (lambda v: v if math.isinf(v) else math.floor(v), -INF),
    "ceil": (lambda v: v if math.isinf(v) else math.ceil(v), -INF),
    "trunc": (lambda v: v if math.isinf(v) else math.trunc(v), -INF),
}
# the bounds of roundings are one off on either side at most
ROUGH = frozenset({"round", "floor", "ceil", "trunc", "log_sigmoid", "softplus"})


def negated(value: Trend) -> Trend:
    """Of -x."""
    return replace(value, direction=-value.direction, low=-value.high, high=-value.low)


def inverted(value: Trend) -> Trend | None:
    """Of 1 / x, for x of one sign."""
    if value.low >= 0:
        return replace(value, direction=-value.direction, low=_one_over(value.high), high=_one_over(value.low))
    if value.high <= 0:
        positive = inverted(negated(value))
        return None if positive is None else negated(positive)
    return None


def _one_over(value: float) -> float:
    return INF if value == 0 else 1 / value


def joined(first: Trend, second: Trend, low: float, high: float, classes: int) -> Trend | None:
    """Of what grows with both."""
    if first.direction * second.direction < 0:
        return None
    bounds = (-INF if math.isnan(low) else low), (INF if math.isnan(high) else high)
    return Trend(first.direction or second.direction, *bounds, classes=classes)


def total(first: Trend, second: Trend, classes: int) -> Trend | None:
    """Of x + y."""
    return joined(first, second, first.low + second.low, first.high + second.high, classes)


def product(first: Trend, second: Trend, classes: int) -> Trend | None:
    """Of x y: where one is the same for all classes its sign has to be known, else both."""
    if second.direction:
        first, second = second, first
    if second.high <= 0 and second.low < 0:
        result = product(first, negated(second), classes)
        return None if result is None else negated(result)
    if second.low < 0 or (second.direction and (first.low < 0 or first.direction != second.direction)):
        return None
    corners = [0.0 if 0.0 in (a, b) else a * b for a in (first.low, first.high) for b in (second.low, second.high)]
    return Trend(first.direction, min(corners), max(corners), classes=classes)


def power(base: Any, exponent: Any) -> Trend | None:
    """Of x ** y, where one of them is a number."""
    if not isinstance(base, Trend) or not isinstance(exponent, Trend):
        return None
    if not exponent.classes and exponent.low > 0:
        return replace(base, low=0.0, high=INF) if base.low >= 0 else base if exponent.low == 1 else None
    if not exponent.classes and exponent.low == -1:
        return inverted(base)
    if not base.classes and base.low > 1:
        return replace(exponent, low=0.0, high=INF)
    return None
