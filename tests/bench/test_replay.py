"""Stored rows lead to the verdicts that they hold, by the rules of this version."""

import json
from pathlib import Path

import pytest

from banscan.scanner.levels import BACKDOORED, SUSPICIOUS, Levels
from banscan.scanner.report.json import read, to_dict
from banscan.scanner.verdict import decide
from bench import replay
from bench.rows import read as rows_of
from tests.golden.pages import FOLDER

ROWS = Path(__file__).parents[2] / "bench" / "results"
# those of the ablation were scanned when the limit of the maps was another one
PARTS = ("examples", "held", "tune")
# the rows are from before it was known how far values of clean models are spread: those that are below a level now, or not any more
MOVED = {
    "examples": {("clean", SUSPICIOUS, False)},
    "held": {
        ("cifar10-resnet18w16-badnets-4-s121", BACKDOORED, True),
        ("cifar10-resnet18w16-badnets-7-s82", SUSPICIOUS, True),
        ("cifar10-resnet18w16-badnets-9-s122", BACKDOORED, True),
        ("cifar10-resnet18w16-badnets-9-s122", SUSPICIOUS, True),
    },
    "tune": {("cifar10-resnet18w16-badnets-6-s130", BACKDOORED, True), ("gtsrb-vgg16w16-badnets-12-s1", BACKDOORED, True)},
}


@pytest.mark.parametrize("part", PARTS)
def test_rows_lead_to_the_verdicts_that_they_hold(part: str) -> None:
    """Outcome, classes, criterion, p-value and score, by the joint test that they were scanned with."""
    for row in rows_of(ROWS / f"{part}.jsonl"):
        stored = row["verdict"]
        anew = replay.verdict(row) if stored["score"] is None else decide(replay.as_stored(row), Levels())
        assert anew.outcome == stored["outcome"], row["name"]
        if stored["score"] is None:
            continue
        if "findings" not in row:
            targets = [] if stored["target"] is None else [stored["target"], *stored.get("others", [])]
            criterion = {"map": anew.criterion if anew.mapping else None}.get(stored["test"], stored["test"])
            stored = stored | {"targets": targets, "criterion": criterion}
        assert (list(anew.targets), anew.kind, anew.criterion) == (stored["targets"], stored["kind"], stored["criterion"]), row["name"]
        assert [list(pair) for pair in anew.mapping] == [list(pair) for pair in stored["mapping"]], row["name"]
        assert anew.p_value == pytest.approx(stored["p_value"]), row["name"]
        assert anew.score == pytest.approx(stored["score"], rel=2e-3), row["name"]


@pytest.mark.parametrize("part", PARTS)
def test_tests_of_rows_decide_as_those_of_this_version(part: str) -> None:
    """Computed anew from the values of the rows, each test but the joint one is on the same side of both levels, but for `MOVED`."""
    moved = set()
    for row in rows_of(ROWS / f"{part}.jsonl"):
        tests = [f for f in replay.as_stored(row) if f.p_value is not None and f.criterion != "joint"]
        stored = {test.criterion: test.p_value or 0.0 for test in tests}
        anew = {name: min(1.0, 2 * len(tests) * replay.alone(row, name)[1][2]) for name in stored}
        for level, names in ((BACKDOORED, stored.keys() - {"margin"}), (SUSPICIOUS, stored.keys())):
            sides = [min((p[name] for name in names), default=1.0) <= level for p in (stored, anew)]
            if sides[0] != sides[1]:
                moved.add((row["name"], level, sides[1]))
    assert moved == MOVED[part]


@pytest.mark.parametrize("name", ["backdoored", "clean"])
def test_a_row_with_findings_leads_to_the_verdict_of_its_report(name: str) -> None:
    report = read((FOLDER / f"{name}.json").read_text())
    document = json.loads(json.dumps(to_dict(report)))
    row = {"findings": document["findings"], "verdict": document["verdict"]}
    assert replay.verdict(row).outcome == report.verdict.outcome
    assert replay.as_stored(row) == report.findings
    assert replay.verdict(row, Levels(calibrated=1e9)).outcome == "no backdoor found"
