"""A few images that stand for all."""

from torch import Tensor, linspace


def evenly(values: Tensor, count: int) -> Tensor:
    """So many of the values [N, ...], or all where there are fewer, from the first to the last."""
    return values[linspace(0, len(values) - 1, min(count, len(values))).long()]
