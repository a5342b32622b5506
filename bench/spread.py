"""How far the values of the tests lie apart over the classes of clean models: the numbers of `criteria/spread.py`.

python -m bench.spread bench/results/effort.jsonl bench/results/small-tune.jsonl …
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.criteria.spread import SPREADS, Spread
from bench import null, replay

# fewer classes are no sample
LEAST = 5
# degrees of freedom that stand for a spread which is the same in all models
MOST = 1000.0


def fitted(samples: Sequence[tuple[int, float]]) -> Spread:
    """What models with so many classes, and such a variance of their values over these, tell of a further one.

    The variances s^2, of n values each, are about s0^2 times F with n - 1 and d0 degrees of freedom; d0 and s0 by the mean and the variance
    of log s^2 (Smyth 2004, section 6.2).
    """
    freedom = np.array([n - 1 for n, _ in samples], dtype=float)
    logs = np.log([variance for _, variance in samples]) - digamma(freedom / 2) + np.log(freedom / 2)
    more = float(logs.var(ddof=1) - polygamma(1, freedom / 2).mean())
    if more <= 0:  # no further apart than chance explains
        return Spread(MOST, math.exp(logs.mean() / 2))
    own = min(MOST, 2 * float(brentq(lambda half: polygamma(1, half) - more, 1e-3, 1e6)))
    return Spread(own, math.exp((logs.mean() + digamma(own / 2) - math.log(own / 2)) / 2))


def compared(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, ClassValues]]:
    """What the tests of each row compared, where there were enough classes."""
    tests = [replay.compared(row) for row in rows]
    return [own for own in tests if own and all(len(v.shown) >= LEAST for v in own.values())]


def spreads(tests: Sequence[Mapping[str, ClassValues]]) -> dict[str, Spread]:
    """That of every test whose spread is known before."""
    return {name: fitted([_of(own[name]) for own in tests if name in own]) for name in SPREADS}


def _of(values: ClassValues) -> tuple[int, float]:
    mean = values.rows.double().mean(0)
    return len(mean), max(float(mean.var()), values.least**2)


@click.command()
@click.argument("rows", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1, required=True)
def main(rows: tuple[Path, ...]) -> None:
    """Print what the clean models among ROWS show that may be looked at and were scanned with the default settings."""
    usable = compared(null.clean(rows))
    for name, spread in spreads(usable).items():
        click.echo(f"{name}: {spread.freedom:.1f} degrees of freedom, deviation {spread.deviation:.2f}")
    click.echo(f"{len(usable)} clean models")


if __name__ == "__main__":
    main()
