"""What a report tells a pipeline: one result for everything that was found, with a level and a fingerprint."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from banscan.scanner import logic
from banscan.scanner.findings import FRAGILE, Finding, Report

# what is told beside criteria
STRUCTURE, INCONCLUSIVE = logic.CRITERION, "inconclusive"
ERROR, WARNING = "error", "warning"
# outcomes that a baseline may accept
FOUND = ("backdoored", "suspicious", FRAGILE)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One thing that was found.

    Attributes:
        rule: the criterion, STRUCTURE or INCONCLUSIVE.
        level: ERROR where it calls the model backdoored, else WARNING, as of a weakness that may be natural.
        sentence: what was seen; names in it are as they are in the file.
        place: the tensor, of a result of STRUCTURE.
        fingerprint: the same for every scan of the same file that finds the same; see `fingerprint`.
        graver: that of the same at the level ERROR, whose acceptance is one of this as well.
        accepted: whether a baseline accepts it.
    """

    rule: str
    level: str
    sentence: str
    place: str | None = None
    fingerprint: str
    graver: str
    accepted: bool


def results(report: Report) -> tuple[Result, ...]:
    """Everything that was found, the gravest first; empty where nothing was."""
    return tuple(sorted(_results(report), key=lambda result: result.level != ERROR))


def settled(report: Report) -> bool:
    """Whether a baseline accepts everything that was found, and something was."""
    found = results(report)
    return report.verdict.outcome in FOUND and bool(found) and all(result.accepted for result in found)


def fingerprint(report: Report, rule: str, *what: object) -> str:
    """SHA-256, in hexadecimal, of the file's own hash, the rule, and what it names: classes, a map of them,
    a tensor; of a file as it would be deployed, how; and the level, where it is no ERROR."""
    deployed = () if report.deployed is None else (report.deployed.kind,)
    return hashlib.sha256("|".join((report.model.sha256, rule, *deployed, *map(str, what))).encode("utf-8", "surrogatepass")).hexdigest()


def _results(report: Report) -> Iterator[Result]:
    verdict = report.verdict
    called = ERROR if verdict.outcome == "backdoored" else WARNING
    told = False
    if report.structure is not None:
        for place in (*report.structure.proofs, *report.structure.doubts):
            told = True
            level = called if place in report.structure.proofs else WARNING
            yield _result(report, STRUCTURE, level, logic.sentence(place), place.tensor, place.target, place=place.tensor)
    for finding in report.findings:
        if verdict.outcome in (*FOUND, INCONCLUSIVE) and (finding.exceeds or (finding.suspects and verdict.outcome in FOUND)):
            told = True
            yield _of(report, finding, called if finding.exceeds and not finding.natural else WARNING)
    for rival in report.rivals:
        if not rival.shown and rival.outcome in FOUND:
            told = True
            about = (rival.preprocess, rival.targets, rival.mapping)
            level = called if rival.outcome == "backdoored" else WARNING
            yield _result(report, rival.criterion or STRUCTURE, level, f"under {rival.preprocess}: {rival.reason}", *about)
    if verdict.outcome == INCONCLUSIVE:
        yield _result(report, INCONCLUSIVE, WARNING, verdict.reason)
    elif verdict.outcome in FOUND and not told:  # of the file as it is, where the deployed one shows nothing
        yield _result(report, verdict.criterion or STRUCTURE, called, verdict.reason, verdict.targets, verdict.mapping)


def _of(report: Report, finding: Finding, level: str) -> Result:
    return _result(report, finding.criterion, level, finding.told, finding.classes, finding.mapping)


def _result(report: Report, rule: str, level: str, sentence: str, *what: object, place: str | None = None) -> Result:
    graver = fingerprint(report, rule, *what)
    own = graver if level == ERROR else fingerprint(report, rule, *what, level)
    accepted = not {own, graver}.isdisjoint(report.accepted)
    return Result(rule=rule, level=level, sentence=sentence, place=place, fingerprint=own, graver=graver, accepted=accepted)
