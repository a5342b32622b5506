"""What is wrong with a report that was read: every value is of its type, but they do not go together."""

import re
from collections.abc import Iterator

from banscan.scanner.findings import NOT_SCANNED, Report
from banscan.scanner.report.rules import RULES
from banscan.scanner.verdict import GRAVITY

# what reports for people tell of a machine
ENVIRONMENT = ("device", "kernels", "processor", "search precision", "threads")
RULED = frozenset(rule.name for rule in RULES)


def damage(report: Report) -> str | None:
    """What of it no scan writes; None where nothing is."""
    return next(_damages(report), None)


def _damages(report: Report) -> Iterator[str]:
    verdict, environment = report.verdict, report.environment
    if verdict.outcome not in GRAVITY:
        yield f"verdict.outcome: expected one of {', '.join(GRAVITY)}"
    if re.fullmatch(r"[0-9a-f]{64}", report.model.sha256) is None:
        yield "model.sha256: expected 64 hexadecimal digits"
    if any(not isinstance(environment.get(name), str | int | float) for name in ENVIRONMENT):
        yield f"environment: expected {', '.join(ENVIRONMENT)}"
    for name in (verdict.criterion, *(finding.criterion for finding in report.findings)):
        if name is not None and name not in RULED:
            yield f"criterion: expected one of {', '.join(sorted(RULED))}"
    if report.standing is not None and not 0 <= (report.standing.probability or 0.0) <= 1:
        yield "standing.probability: expected a number from 0 to 1"
    # of a file that was not read nobody knows how many it has
    known = [report.model.classes] if report.model.classes else []
    known += [] if report.class_names is None else [len(report.class_names)]
    if report.controls is not None and any(c.outcome is not None and c.outcome not in GRAVITY for c in report.controls.copies):
        yield f"controls.copies.outcome: expected one of {', '.join(GRAVITY)}"
    if any(r.outcome not in GRAVITY for r in report.rivals):
        yield f"rivals.outcome: expected one of {', '.join(GRAVITY)}"
    if report.rivals:
        left = () if report.preprocess is None else report.preprocess.rivals
        if tuple(r.preprocess for r in report.rivals) != left or sum(r.shown for r in report.rivals) != 1:
            yield "rivals: expected the preprocessings that the images leave open, one of them shown"
        elif report.verdict.outcome == "no backdoor found" and any(r.outcome != report.verdict.outcome for r in report.rivals):
            yield "rivals: expected the verdict to hold under all of them"
        elif report.verdict.outcome not in ("inconclusive", NOT_SCANNED) and any(r.outcome == NOT_SCANNED for r in report.rivals):
            yield "rivals: expected a scan under each of them where there is a verdict"
    if report.parity is not None and not 0 <= report.parity.unsteady < report.parity.images:
        yield "parity.unsteady: expected a number from 0 on, below that of the images"
    if any(c < 0 or any(c >= count for count in known) for c in _classes(report)):
        yield f"classes: expected numbers from 0 on, below {min(known, default=0)}"
    searched = frozenset(report.searched)
    if any(f.values and len(f.values) == len(report.searched) and not searched.issuperset(f.classes) for f in report.findings):
        yield "classes: expected those that were searched for"


def _classes(report: Report) -> Iterator[int]:
    """Every class that is named."""
    yield from report.searched
    yield from (row.target for row in report.reach)
    copied = report.controls.copies if report.controls is not None else ()
    others = [c.targets for c in copied] + [r.targets for r in report.rivals]
    mapped = [r.mapping for r in report.rivals]
    yield from (c.target for c in copied if c.target is not None)
    for place in (report.verdict.targets, *others, *(finding.classes for finding in report.findings)):
        yield from place
    for mapping in (report.verdict.mapping, *mapped, *(finding.mapping for finding in report.findings)):
        yield from (c for pair in mapping for c in pair)
    if report.structure is not None:
        yield from (place.target for place in report.structure.places if place.target is not None)
