"""Other states that a tensor can have than the one that it has on all clean images."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from banscan.importers.structure.bounds import Interval

# how far from its own level a number is set
LEVELS = (1.0, 10.0, 1000.0)
# places of a map that are tried one at a time; a vector up to this length is tried at each of its places
PLACES, LONGEST = 3, 64


@dataclass(frozen=True)
class State:
    """Values that are set one after another, all of which have to lead to the same class; `told`, what that is."""

    told: str
    values: tuple[np.ndarray, ...]


def states(
    value: np.ndarray, batch: int, within: Interval, parts: tuple[np.ndarray, np.ndarray] | None = None, *, beside: bool
) -> Iterator[State]:
    """Other states of a tensor with this value, nearest first.

    One number for an image is set to others that its operator can answer. Of several, one at a time; all at once only where they pass the
    network by (`beside`): there they are no picture, which nothing would be left of. `parts`, where it is known, holds the bounds of each.
    """
    if not value.size or value.dtype.kind not in "biuf" or not np.isfinite(value.astype(float)).all():
        return
    single = value.size == batch
    if value.dtype == np.bool_:
        if within[0] == within[1]:
            return
        if single or beside:
            yield State(str(not bool(value.reshape(-1)[0])).lower() if single else "the opposite", (~value,))
        if not single:
            yield from _placed(value, "the opposite", lambda part: ~part, beside)
        return
    for level in levels(float(value.reshape(-1)[0]) if single else float(np.median(value)), within, whole=value.dtype.kind in "iu"):
        if not _fits(value.dtype, level):
            continue
        if single:
            yield State(f"{level:g}", (np.full_like(value, level),))
        elif beside:
            yield from _placed(value, f"{level:g}", lambda part, level=level: np.full_like(part, level), beside, _able(value, parts, level))


def living(seen: np.ndarray, within: Interval) -> Iterator[State]:
    """States for one number for an image, which differs between clean images: `seen` [N, ...] is what it is there."""
    example = seen[0]
    if example.dtype == np.bool_:
        yield from (State(str(v).lower(), (np.full_like(example, v),)) for v in (True, False))
        return
    if example.dtype.kind not in "iuf" or not np.isfinite(seen.astype(float)).all():
        return
    own, spread = float(np.median(seen)), float(np.ptp(seen))
    for level in levels(own, within, whole=example.dtype.kind in "iu", unit=spread):
        if _fits(example.dtype, level):
            yield State(f"{level:g}", (np.full_like(example, level),))


def levels(own: float, within: Interval, *, whole: bool, unit: float = 1.0) -> list[float]:
    """Other levels than a number's own that lie within bounds, nearest first; `unit` is how far from its own they begin."""
    low, high = within
    ends = [end for end in within if math.isfinite(end) and abs(end) <= LEVELS[-1]]
    wanted = [*ends, *(own + sign * level * unit for level in LEVELS for sign in (1, -1))]
    kept = {min(max(w, low), high) for w in wanted}
    kept = {float(round(w)) if whole else w for w in kept}
    return sorted((w for w in kept if abs(w - own) > 1e-6), key=lambda w: abs(w - own))


def _able(value: np.ndarray, parts: tuple[np.ndarray, np.ndarray] | None, level: float) -> np.ndarray | None:
    """Places that can have a level; None where nothing is known of single ones."""
    if parts is None or value.size % len(parts[0]):
        return None
    low, high = (np.tile(end, value.size // len(end)) for end in parts)
    room = 1e-3 * np.maximum(np.abs(low), np.abs(high))
    return np.flatnonzero((low - room <= level) & (level <= high + room))


def _placed(value: np.ndarray, told: str, change: object, beside: bool, able: np.ndarray | None = None) -> Iterator[State]:
    """One place at a time; each for itself in a vector that passes the network by, else several that have to agree."""
    flat = value.reshape(-1)
    apart = beside and flat.size <= LONGEST
    places = (
        (np.arange(flat.size) if able is None else able)
        if apart
        else np.unique(np.linspace(0, flat.size - 1, PLACES + 2).astype(int)[1:-1])
    )
    made = []
    for place in places:
        other = flat.copy()
        other[place : place + 1] = change(flat[place : place + 1])  # type: ignore[operator]
        made.append(other.reshape(value.shape))
    if apart:
        yield from (State(f"{told} at place {k}", (m,)) for k, m in zip(places, made, strict=True))
    elif len(made) == PLACES:
        yield State(f"{told} at one of its places", tuple(made))


def _fits(dtype: np.dtype, level: float) -> bool:
    if dtype.kind not in "iu":
        return True
    bounds = np.iinfo(dtype)
    return bool(bounds.min <= level <= bounds.max)
