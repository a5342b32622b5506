"""Shares of images that have an absolute limit, because what exceeds it has no innocent reason."""


def score(moved: float, limit: float) -> float:
    """1 where the share reaches its limit. The cube keeps shares that likeness of classes explains below the scores of clean classes."""
    return (moved / limit) ** 3


def share_of(score: float, limit: float) -> float:
    """The share with this score."""
    return limit if score == 1 else float(limit * score ** (1 / 3))
