"""Findings as test results, in the form that CI systems read from JUnit: a suite for every model, a case for every criterion."""

from collections.abc import Sequence
from typing import TextIO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from banscan.scanner.findings import NOT_SCANNED, Failure, Report
from banscan.scanner.report.pieces import headline, sentence
from banscan.scanner.report.results import FOUND, INCONCLUSIVE, Result, results, settled
from banscan.text import plain

VERDICT = "verdict"


def to_junit(reports: Sequence[Report], failures: Sequence[Failure] = ()) -> Element:
    """The suites. A finding is a failure, an accepted one and what was not looked for are skipped, so is a dry run;
    no verdict is an error."""
    root = Element("testsuites", name="banscan")
    for report in reports:
        _suite(root, report)
    for failure in failures:
        suite = SubElement(root, "testsuite", name=plain(str(failure.path)))
        _told(_case(suite, VERDICT), "error", failure.sentence, "failed")
        _count(suite)
    _count(root)
    return root


def _suite(root: Element, report: Report) -> None:
    suite = SubElement(root, "testsuite", name=plain(report.model.name), time=f"{sum(report.seconds.values()):.1f}")
    facts = SubElement(suite, "properties")
    score = "" if report.verdict.score is None else f"{report.verdict.score:.6g}"
    for name, value in (("sha256", report.model.sha256), ("outcome", report.verdict.outcome), ("score", score)):
        SubElement(facts, "property", name=name, value=value)
    case = _case(suite, VERDICT)
    words = f"{headline(report)}. {sentence(report.verdict.reason)} Next: {report.verdict.next_step}"
    if settled(report):
        _told(case, "skipped", f"Accepted by the baseline. {words}")
    elif report.verdict.outcome in FOUND:
        _told(case, "failure", words, report.verdict.outcome)
    elif report.verdict.outcome == INCONCLUSIVE:
        _told(case, "error", words, INCONCLUSIVE)
    elif report.verdict.outcome == NOT_SCANNED:
        _told(case, "skipped", words)
    found: dict[str, Result] = {}
    for result in results(report):
        found.setdefault(result.rule, result)
    for finding in report.findings:
        case, own = _case(suite, finding.criterion), found.pop(finding.criterion, None)
        if own is not None:
            _of(case, own)
        elif finding.not_done is not None:
            _told(case, "skipped", f"not looked for: {finding.not_done}")
    for rule, result in found.items():
        if rule != INCONCLUSIVE:
            _of(_case(suite, rule), result)
    _count(suite)


def _of(case: Element, result: Result) -> None:
    _told(case, "skipped" if result.accepted else "failure", sentence(result.sentence), result.level)


def _case(suite: Element, name: str) -> Element:
    return SubElement(suite, "testcase", classname=suite.get("name", ""), name=name)


def _told(case: Element, kind: str, words: str, type_: str = "") -> None:
    made = SubElement(case, kind, message=plain(words))
    if kind != "skipped":
        made.set("type", type_)
        made.text = plain(words)


def _count(suite: Element) -> None:
    suite.set("tests", str(len(suite.findall(".//testcase"))))
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f".//{kind}"))))


def write(report: Report, stream: TextIO) -> None:
    """Writes one report."""
    write_many((report,), (), stream)


def write_many(reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
    """Writes several into one document."""
    root = to_junit(reports, failures)
    ElementTree.indent(root, " ")
    stream.write('<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n")
