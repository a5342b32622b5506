"""The findings that a row of results holds, so that tables and tests ask the scanner's own rules what they lead to.

Rows since the schema banscan/2 hold findings as reports have them. Earlier ones hold, for every model, the outlier tests as they were
printed, the values that they compared (means over restarts, four digits), and what patches and maps moved.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from banscan.scanner.criteria import joint, noise, outlier, patch, perturbation
from banscan.scanner.criteria.base import Context, NotDone
from banscan.scanner.criteria.class_maps import find as find_map
from banscan.scanner.criteria.clearness import CLEARNESS
from banscan.scanner.criteria.noise_map import NOISE_MAP
from banscan.scanner.criteria.outlier import ClassValues, Tested
from banscan.scanner.criteria.patch_share import PATCH_SHARE
from banscan.scanner.criteria.pixel_map import PIXEL_MAP
from banscan.scanner.criteria.registry import CRITERIA
from banscan.scanner.criteria.spread import SPREADS, UNKNOWN
from banscan.scanner.findings import Finding, Verdict
from banscan.scanner.levels import Levels
from banscan.scanner.looks import paid
from banscan.scanner.report.json import made
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.verdict import decide

Row = Mapping[str, Any]
USUAL = Levels()
# tests whose values are the log-odds of shares
SHARES = ("noise", "perturbation", "patch")
ABSENT = NotDone("this row holds nothing of it")
P = ParamSpec("P")
T = TypeVar("T")


def _once(function: Callable[Concatenate[Row, P], T]) -> Callable[Concatenate[Row, P], T]:
    """The same, computed once for a row, of which pages ask the same many times."""
    known: dict[Any, tuple[Row, T]] = {}

    @wraps(function)
    def remembered(row: Row, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = id(row), args, *kwargs.items()
        if key not in known:
            known[key] = row, function(row, *args, **kwargs)  # the row as well: no other one is to get its number
        return known[key][1]

    return remembered


@_once
def verdict(row: Row, levels: Levels = USUAL) -> Verdict:
    """What the findings of a row lead to at these levels; what the row says where its scan stopped before any."""
    stored = row["verdict"]
    if stored["score"] is None:
        return Verdict(outcome=stored["outcome"], reason=stored["reason"])
    return decide(findings(row, levels), levels)


@_once
def findings(row: Row, levels: Levels = USUAL) -> tuple[Finding, ...]:
    """What every criterion found, tests computed anew by what is known of spreads now; none where the scan stopped before them."""
    found = as_stored(row, levels)
    tests = {f.criterion: f for f in found if f.p_value is not None}
    count = len(tests.keys() - {"joint"})
    anew = {name: _anew(row, f, count, levels) for name, f in tests.items() if name in SPREADS and f.values}
    if "joint" in tests:
        anew["joint"] = _joint(tests, levels, _paid(row, "joint"))
    return tuple(anew.get(f.criterion, f) for f in found)


@_once
def as_stored(row: Row, levels: Levels = USUAL) -> tuple[Finding, ...]:
    """The same with the tests of the version that scanned."""
    if "findings" in row:
        return tuple(levels.applied(made(Finding, finding)) for finding in row["findings"])
    return () if row["verdict"]["score"] is None else _earlier(row, levels)


@_once
def alone(row: Row, test: str) -> tuple[torch.Tensor, tuple[tuple[int, ...], float, float]]:
    """The values [T] of one outlier test and what `outlier.together` says of them by themselves."""
    tests = {f.criterion: f for f in as_stored(row) if f.p_value is not None}
    if test == "joint":
        measured = _together(tests)
        return measured.shown, joint.standing_out(measured, len(measured.shown), 1)
    own = _values(tests[test])
    return own.shown, outlier.together(own.shown.__getitem__, len(own.shown), len(own.shown), 1, own.least, spread=own.spread)


def _anew(row: Row, stored: Finding, count: int, levels: Levels) -> Finding:
    """A test by what is known now of the spread of its values."""
    measured = _values(stored)
    classes = len(measured.shown)
    context = Context(levels, torch.arange(classes), classes, count, _paid(row, stored.criterion))
    criterion = next(c for c in CRITERIA if c.name == stored.criterion)
    found = outlier.find(criterion, measured, context, "class {c}: {seen}")
    return replace(found, partly=stored.partly, sentence=stored.sentence if found.classes == stored.classes else found.sentence)


def _paid(row: Row, criterion: str) -> int:
    return paid(criterion, row.get("settings", {}).get("effort", "thorough"), row.get("whole", ()))


def compared(row: Row) -> dict[str, ClassValues]:
    """What each outlier test of a row compared, the joint one left out."""
    return {f.criterion: _values(f) for f in as_stored(row) if f.p_value is not None and f.criterion != "joint" and f.values}


def _joint(tests: Mapping[str, Finding], levels: Levels, looks: int) -> Finding:
    """The joint test of the others' values."""
    measured = _together(tests)
    classes = len(measured.shown)
    return joint.JOINT.found(measured, Context(levels, torch.arange(classes), classes, len(measured.tests), looks))


def _together(tests: Mapping[str, Finding]) -> joint.Together:
    return joint.together({name: _values(finding) for name, finding in tests.items() if name != "joint"})


def _values(finding: Finding) -> ClassValues:
    values = torch.tensor(finding.values, dtype=torch.float64)
    least = outlier.finest(values) if finding.criterion in SHARES else outlier.unsteady(values)
    return ClassValues(values[None], least, values, spread=SPREADS.get(finding.criterion, UNKNOWN))


def _earlier(row: Row, levels: Levels) -> tuple[Finding, ...]:
    """Those of a row without findings."""
    values = {name: torch.tensor(v, dtype=torch.float64) for name, v in row["values"].items()}
    classes = len(values["noise"])
    context = Context(levels, torch.arange(classes), classes, len(values) - 1)
    tested = {t["name"]: t for t in row["verdict"]["tests"]}
    found = []
    for criterion in CRITERIA:
        if criterion.name in tested:
            found.append(_test(criterion.name, tested[criterion.name], values[criterion.name], context))
        elif criterion is PATCH_SHARE:
            moved = row.get("patched")
            success = values.get("patch", torch.empty(0)).sigmoid()
            measured = ABSENT if moved is None else patch.reached(torch.tensor(moved["moved"]), success, moved["images"])
            found.append(criterion.found(measured, context))
        elif criterion is CLEARNESS:
            rough = values.get("perturbation")
            found.append(criterion.found(ABSENT if rough is None else perturbation.reached(rough.sigmoid(), rough.sigmoid()), context))
        elif criterion in (NOISE_MAP, PIXEL_MAP):
            found.append(_map(criterion is NOISE_MAP, row, context))
        else:
            found.append(criterion.found(ABSENT, context))
    return tuple(found)


def _test(name: str, test: Row, values: torch.Tensor, context: Context) -> Finding:
    """An outlier test as it was printed, with what would be said of it."""
    criterion = next(c for c in CRITERIA if c.name == name)
    classes = (test["target"], *test.get("others", ()))
    tested = Tested(classes, test["statistic"], tuple(test["restarts"]), test["p_value"], test["threshold"], test["steady"])
    measured = noise.moved_to(values.sigmoid()[None], 0.0) if name == "noise" else ClassValues(values[None], 0.0, values, ".2f")
    return outlier.as_finding(criterion, measured, tested, context, "class {c}: {seen}")


def _map(by_noise: bool, row: Row, context: Context) -> Finding:
    """The share that moves along a map; where it did not decide, the row says no more of it than how much is y to y + 1."""
    criterion, key = (NOISE_MAP, "noise map") if by_noise else (PIXEL_MAP, "map")
    own = row.get(key)
    if own is None:
        return criterion.found(ABSENT, context)
    pairs = row["verdict"]["mapping"]
    attacked = tuple(a for _, a in pairs) if pairs else _following(own["next"], context.classes)
    return find_map(criterion, (Mapped(attacked, own["moved"]), None), context, criterion.name)


def _following(share: float, classes: int) -> tuple[int, ...]:
    """A map of which this share is y to y + 1, and the rest nothing that is known."""
    count = round(share * classes)
    return tuple((c + 1) % classes if c < count else c for c in range(classes))
