"""The criteria, in the order in which they measure, and in which reports show them."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from torch import Tensor

from banscan.scanner.criteria.base import Context, Criterion
from banscan.scanner.criteria.clearness import CLEARNESS
from banscan.scanner.criteria.dormant import DORMANT
from banscan.scanner.criteria.joint import JOINT
from banscan.scanner.criteria.logit import LOGIT
from banscan.scanner.criteria.margin import MARGIN
from banscan.scanner.criteria.noise import NOISE
from banscan.scanner.criteria.noise_map import NOISE_MAP
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.criteria.patch import PATCH
from banscan.scanner.criteria.patch_share import PATCH_SHARE
from banscan.scanner.criteria.perturbation import PERTURBATION
from banscan.scanner.criteria.pixel_map import PIXEL_MAP
from banscan.scanner.criteria.transform import TRANSFORM
from banscan.scanner.findings import Finding
from banscan.scanner.levels import Levels
from banscan.scanner.machine.progress import Progress
from banscan.scanner.subject import Subject

CRITERIA: tuple[Criterion, ...] = (
    NOISE,
    LOGIT,
    MARGIN,
    PERTURBATION,
    PATCH,
    JOINT,
    PATCH_SHARE,
    CLEARNESS,
    TRANSFORM,
    NOISE_MAP,
    PIXEL_MAP,
    DORMANT,
)


def measure(
    subject: Subject,
    measured: dict[str, Any],
    progress: Progress,
    stage: Callable[[str], AbstractContextManager[None]],
    only: Collection[str] | None = None,
) -> None:
    """Puts what every criterion measures into `measured`, by its name; `stage` keeps the time of each.

    Args:
        only: criteria that measure again, and with them those that read what others measured; None for all.

    Raises:
        EvidenceError: one of them cannot come to numbers that can be trusted; what was measured before is there.
    """
    for criterion in CRITERIA:
        if only is not None and not criterion.reads and criterion.name not in only:
            continue
        with stage(criterion.name):
            measured[criterion.name] = criterion.measure(subject, measured, progress)


def findings(
    measured: Mapping[str, Any], searched: Tensor, classes: int, levels: Levels, paid: Callable[[str], int] = lambda name: 1
) -> tuple[Finding, ...]:
    """What the criteria make of their measurements, for the classes `searched` [T] of all; every one has to have one, or a NotDone.

    Args:
        paid: what the level is divided by for the look that measured a criterion, by its name.
    """
    # the joint test sums up the others, and the criteria with limits of their own read what a test has measured
    tests = sum(isinstance(measured[c.name], ClassValues) for c in CRITERIA[: CRITERIA.index(JOINT)])
    about = Context(levels, searched, classes, tests)
    return tuple(c.found(measured[c.name], replace(about, looks=paid(c.name))) for c in CRITERIA)
