"""Shares of images that have an absolute limit, because what exceeds it has no innocent reason."""

from scipy.special import betaincinv

# of the odds of a limit; less is too far from it for a search with more effort to get there
NEAR = 0.5


def score(moved: float, limit: float) -> float:
    """1 where the share reaches its limit. The cube keeps shares that likeness of classes explains below the scores of clean classes."""
    return (moved / limit) ** 3


def share_of(score: float, limit: float) -> float:
    """The share with this score."""
    return limit if score == 1 else float(limit * score ** (1 / 3))


def at_least(hits: int, images: int, error: float) -> float:
    """The share of all images that `hits` of `images` say, at least: Clopper and Pearson's bound, which fails with probability `error`."""
    return float(betaincinv(hits, images - hits + 1, error)) if hits else 0.0


def near(share: float, limit: float) -> bool:
    """Whether a share has at least NEAR of the odds of a limit, so that it is worth a search with more effort."""
    return odds(share) >= NEAR * odds(limit)


def odds(share: float) -> float:
    """share / (1 - share)."""
    return share / max(1 - share, 1e-12)
