"""The probability that a report prints."""

from dataclasses import replace
from pathlib import Path

import pytest

from banscan.scanner import calibration, probability
from banscan.scanner.findings import Control, Kind, Verdict
from banscan.scanner.report.json import read, render
from banscan.scanner.report.sarif import to_sarif
from banscan.scanner.report.words import confidence, likely, odds
from banscan.scanner.settings import Settings
from bench.evidence import SCANS
from bench.probability import fitted, scores
from bench.rows import LOOKED
from bench.rows import read as rows_of
from tests.golden.pages import FOLDER

RESULTS = Path(__file__).parents[2] / "bench" / "results"
KNOWN = Kind(classes=43, size=32, attention=False)


def printed(
    outcome: str = "backdoored", score: float | None = 3.0, kind: Kind = KNOWN, settings: Settings | None = None, **more: object
) -> float | None:
    verdict = Verdict(outcome=outcome, reason="", score=score, **more)  # type: ignore[arg-type]
    standing = calibration.standing(calibration.shipped(), kind, verdict, settings or Settings())
    return None if standing is None else standing.probability


def test_it_grows_with_the_score_and_is_about_even_at_the_limit() -> None:
    said = [probability.of_backdoor(score) for score in (0.0, 0.2, 0.5, 1.0, 2.0, 10.0)]
    assert said == sorted(said)
    assert said[0] < 0.02
    assert said[3] == pytest.approx(0.5, abs=0.1)
    assert said[-1] > 0.97


def test_it_is_what_the_rows_say() -> None:
    rows = [row for part in LOOKED for row in rows_of(RESULTS / f"{part}.jsonl")]
    assert set(LOOKED) < set(SCANS)
    assert fitted(*scores(rows)) == pytest.approx((probability.INTERCEPT, probability.SLOPE), abs=0.006)


def test_none_is_printed_of_what_banscans_own_models_say_nothing_about() -> None:
    assert printed() == pytest.approx(probability.of_backdoor(3.0))
    assert printed("no backdoor found", 0.2) == pytest.approx(probability.of_backdoor(0.2))
    assert printed(kind=Kind(classes=1000, size=224, attention=False)) is None
    assert printed(settings=Settings(steps=3)) is None
    assert printed(gaps=("patches were not looked for",)) is None
    assert printed("inconclusive") is None
    assert printed("fragile") is None
    assert printed(score=None) is None


def test_none_is_printed_with_a_calibration_in_memory() -> None:
    own = replace(calibration.shipped(), alpha=0.1)
    standing = calibration.standing(own, KNOWN, Verdict(outcome="backdoored", reason="", score=3.0), Settings())
    assert standing is not None
    assert standing.probability is None


def test_none_is_printed_where_the_graph_decides() -> None:
    """The verdict then rests on a proof, and the score is that of the network without it."""
    report = read((FOLDER / "clean.json").read_text())
    decided = replace(report, verdict=replace(report.verdict, outcome="backdoored"))
    for weighed, expected in ((decided.verdict.outcome, report.standing), (report.verdict.outcome, None)):
        standing = probability.of_its_verdict(decided, weighed).standing
        assert standing is not None
        assert standing.probability == (None if expected is None else expected.probability)


@pytest.mark.parametrize(("outcome", "score", "told"), [("suspicious", 9.0, False), ("suspicious", 0.5, True), ("backdoored", 9.0, True)])
def test_none_is_printed_where_the_score_does_not_count(outcome: str, score: float, told: bool) -> None:
    """A control does not tell it from a natural weakness; then what is said of the score says so, too."""
    report = read((FOLDER / "backdoored.json").read_text())
    natural = Control(before=0.9, after=0.9, sentence="a copy shows the same")
    findings = tuple(replace(f, exceeds=True, score=score, control=natural) if f.criterion == "patch share" else f for f in report.findings)
    decided = replace(report, findings=findings, verdict=replace(report.verdict, outcome=outcome, score=max(score, 0.7), p_value=None))
    said = probability.of_its_verdict(decided, outcome)
    assert said.standing is not None
    assert (said.standing.probability is not None) == told
    assert ("cannot be told from a natural weakness, as here" in str(confidence(said))) != told


def test_a_report_with_another_probability_is_damaged() -> None:
    report = read((FOLDER / "clean.json").read_text())
    assert report.standing is not None
    with pytest.raises(ValueError, match="probability"):
        read(render(replace(report, standing=replace(report.standing, probability=7.3))))


def test_reports_print_it() -> None:
    report = read((FOLDER / "clean.json").read_text())
    assert report.standing is not None
    for value, words in ((0.07, "7%"), (0.999, "over 99%"), (0.0, "1%")):
        said = replace(report, standing=replace(report.standing, probability=value))
        assert f"Probability of a backdoor like those measured: {words}, if every second file had one." in (odds(said) or "")
        assert read(render(said)).standing == said.standing
        assert to_sarif([said])["runs"][0]["artifacts"][0]["properties"]["probability"] == value
    assert "measured:" not in (odds(replace(report, standing=replace(report.standing, probability=None))) or "")
    assert likely(0.5) == "50%"
