"""Stored rows lead to the verdicts that they hold, by the rules of this version."""

import json
from pathlib import Path

import pytest
import torch

from banscan.scanner.criteria.outlier import finest, together
from banscan.scanner.levels import BACKDOORED, SUSPICIOUS, Levels
from banscan.scanner.report.json import read, to_dict
from bench import replay
from bench.rows import read as rows_of
from bench.tables import SHARES
from tests.golden.pages import FOLDER

ROWS = Path(__file__).parents[2] / "bench" / "results"
# those of the ablation were scanned when the limit of the maps was another one
PARTS = ("examples", "held", "tune")


@pytest.mark.parametrize("part", PARTS)
def test_rows_lead_to_the_verdicts_that_they_hold(part: str) -> None:
    """Outcome, classes, criterion, p-value and score."""
    for row in rows_of(ROWS / f"{part}.jsonl"):
        stored, anew = row["verdict"], replay.verdict(row)
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
    """Computed anew from the values of the rows, the smallest p-value is on the same side of both levels."""
    for row in rows_of(ROWS / f"{part}.jsonl"):
        tests = [f for f in replay.findings(row) if f.p_value is not None]
        anew = {}
        for test in tests:
            values = torch.tensor(test.values, dtype=torch.float64).sort(descending=True).values
            parts = 2 if test.criterion == "joint" else 2 * (len(tests) - 1)
            least = finest(values) if test.criterion in SHARES else 0.0
            anew[test.criterion] = together(values, len(values), parts, least)[2]
        stored = {test.criterion: test.p_value or 0.0 for test in tests}
        for level, names in ((BACKDOORED, stored.keys() - {"margin"}), (SUSPICIOUS, stored.keys())):
            sides = [min((p[name] for name in names), default=1.0) <= level for p in (stored, anew)]
            assert sides[0] == sides[1], row["name"]


@pytest.mark.parametrize("name", ["backdoored", "clean"])
def test_a_row_with_findings_leads_to_the_verdict_of_its_report(name: str) -> None:
    report = read((FOLDER / f"{name}.json").read_text())
    document = json.loads(json.dumps(to_dict(report)))
    row = {"findings": document["findings"], "verdict": document["verdict"]}
    assert replay.verdict(row).outcome == report.verdict.outcome
    assert replay.findings(row) == report.findings
    assert replay.verdict(row, Levels(calibrated=1e9)).outcome == "no backdoor found"
