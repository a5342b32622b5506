"""What reports tell pipelines: SARIF, JUnit, Markdown, CycloneDX and baselines, all made again from stored reports."""

import io
import json
import random
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from banscan.errors import UsageError
from banscan.importers.structure.finding import Logic, Structure
from banscan.scanner import baseline
from banscan.scanner.cli import outputs
from banscan.scanner.criteria.registry import CRITERIA
from banscan.scanner.findings import FRAGILE, PLANNED, Control, Failure, Report
from banscan.scanner.logic import weighed
from banscan.scanner.report import formats
from banscan.scanner.report.json import read, read_file, to_dict
from banscan.scanner.report.results import results, settled
from banscan.scanner.report.sarif import to_sarif
from banscan.scanner.verdict import inconclusive
from tests.golden.pages import FOLDER, ROOT
from tests.scanner.cli.test_main import banscan, failed
from tests.scanner.report.hostile import hostile
from tests.test_text import HOSTILE

jsonschema = pytest.importorskip("jsonschema")
SARIF: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "sarif-2.1.0.json").read_text())
FAILURES = (Failure(Path("a b/ü.onnx"), None, "a b/ü.onnx: not an ONNX model", 3),)


@pytest.fixture
def report() -> Report:
    return read((FOLDER / "backdoored.json").read_text())


@pytest.fixture
def clean() -> Report:
    return read((FOLDER / "clean.json").read_text())


def proved(report: Report) -> Report:
    """A report with logic in its graph."""
    place = Logic(
        tensor="gate",
        node="n",
        operator="Where",
        kind="decision",
        before=0,
        after=1,
        outcome="proved",
        state="1",
        target=3,
        moved=1,
        changed=1,
    )
    structure = Structure(places=(place,))
    return replace(report, structure=structure, verdict=weighed(report.verdict, structure))


def valid(document: dict[str, Any]) -> dict[str, Any]:
    """The run of a SARIF document that fits the schema."""
    jsonschema.Draft4Validator(SARIF, format_checker=jsonschema.FormatChecker()).validate(document)
    (run,) = document["runs"]
    return run  # type: ignore[no-any-return]


def written(report: Report, name: str) -> str:
    stream = io.StringIO()
    formats.named(name).scan(report, stream)
    return stream.getvalue()


def test_the_path_of_a_failed_model_keeps_its_letters(report: Report) -> None:
    stream = io.StringIO()
    formats.named("markdown").many((report,), FAILURES, stream)
    assert stream.getvalue().count("a b/ü.onnx: not an ONNX model.") == 2


def test_sarif_names_the_file_and_what_was_found(report: Report) -> None:
    run = valid(json.loads(written(report, "sarif")))
    (artifact,) = run["artifacts"]
    assert artifact["hashes"] == {"sha-256": report.model.sha256}
    assert artifact["location"]["uri"] == "examples/backdoored.onnx"
    assert [r["level"] for r in run["results"]] == ["error"] * 3 + ["warning"] * (len(run["results"]) - 3)
    assert {r["ruleId"] for r in run["results"]} == {f.criterion for f in report.findings if f.exceeds or f.suspects}
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])
    assert {c.name for c in CRITERIA} < {rule["id"] for rule in rules}
    assert all(len(rule["help"]["text"]) > 80 for rule in rules)


def test_levels_follow_the_verdict(report: Report, clean: Report) -> None:
    assert valid(to_sarif((clean,)))["results"] == []
    open_ = replace(report, verdict=inconclusive("too few images"))
    found = valid(to_sarif((open_,)))["results"]
    assert {r["level"] for r in found} == {"warning"}
    assert any(r["message"]["text"] == "Too few images." for r in found)
    doubtful = replace(report, verdict=replace(report.verdict, outcome="suspicious"))
    assert {r.level for r in results(doubtful)} == {"warning"}
    logic, *_ = valid(to_sarif((proved(clean),)))["results"]
    assert (logic["ruleId"], logic["level"]) == ("structure", "error")
    assert logic["locations"][0]["logicalLocations"] == [{"name": "gate"}]


def test_what_may_be_natural_is_a_warning(clean: Report) -> None:
    """In SARIF, JUnit and a baseline, with what the control says; beside a backdoor it is no error either."""
    control = Control(before=0.9, sentence="planted or natural cannot be told")
    findings = tuple(replace(f, exceeds=True, control=control) if f.criterion == "transform" else f for f in clean.findings)
    fragile = replace(clean, findings=findings, verdict=replace(clean.verdict, outcome=FRAGILE, criterion="transform"))
    (told,) = valid(to_sarif((fragile,)))["results"]
    assert (told["ruleId"], told["level"]) == ("transform", "warning")
    assert "planted or natural cannot be told" in told["message"]["text"]
    stream = io.StringIO()
    formats.named("junit").many((fragile,), (), stream)
    suite = ElementTree.fromstring(stream.getvalue())[0]
    assert suite.get("failures") == "2"
    assert settled(replace(fragile, accepted=tuple(r.fingerprint for r in results(fragile))))
    # what is accepted as a weakness is not accepted as a backdoor, but the other way round
    (weak,) = (r for r in results(fragile) if r.rule == "transform")
    finding = next(f for f in fragile.findings if f.criterion == "transform")
    control = None if finding.control is None else replace(finding.control, planted=True)
    sure = replace(fragile, verdict=replace(fragile.verdict, outcome="backdoored"), findings=(replace(finding, control=control),))
    (grave,) = results(replace(sure, accepted=(weak.fingerprint,)))
    assert (grave.level, grave.accepted) == ("error", False)
    assert all(r.accepted for r in results(baseline.applied(fragile, frozenset(r.graver for r in results(fragile)))))
    called = replace(fragile, verdict=replace(fragile.verdict, outcome="backdoored"))
    assert [r.level for r in results(called) if r.rule == "transform"] == ["warning"]


def test_fingerprints_hold_over_runs_and_tell_findings_apart(report: Report) -> None:
    def prints(of: Report) -> list[str]:
        return [r.fingerprint for r in results(of)]

    # another run: other seconds, another seed with slightly other numbers
    findings = tuple(replace(f, value=None if f.value is None else f.value * 1.01) for f in report.findings)
    again = replace(report, seconds={}, settings=replace(report.settings, seed=1), findings=findings)
    assert prints(again) == prints(report)
    assert len(set(prints(report))) == len(prints(report))
    other = replace(report, model=replace(report.model, sha256="0" * 64))
    moved = replace(report, findings=tuple(replace(f, classes=(1,)) for f in report.findings))
    assert set(prints(report)).isdisjoint(prints(other))
    assert set(prints(report)).isdisjoint(prints(moved))


def test_several_reports_and_failures_in_one_document(report: Report, clean: Report) -> None:
    run = valid(to_sarif((clean, report), FAILURES))
    assert {r["locations"][0]["physicalLocation"]["artifactLocation"]["index"] for r in run["results"]} == {1}
    (told,) = run["invocations"]
    assert told["executionSuccessful"] is False
    assert [n["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for n in told["toolExecutionNotifications"]] == [
        "a%20b/%C3%BC.onnx"
    ]
    for format_ in formats.FORMATS:
        if format_.missing() is None and format_.name != "baseline":
            stream = io.StringIO()
            format_.many((clean, report), FAILURES, stream)
            assert "ot an ONNX model" in stream.getvalue() or format_.name == "cyclonedx", format_.name


def test_junit_counts_findings_as_failures(report: Report, clean: Report) -> None:
    root = ElementTree.fromstring(written(report, "junit"))
    suite = root.find("testsuite")
    assert suite is not None
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert failed == {"verdict"} | {f.criterion for f in report.findings if f.exceeds or f.suspects}
    assert int(root.get("failures", "")) == len(failed)
    calm = ElementTree.fromstring(written(clean, "junit"))
    assert (calm.get("failures"), calm.get("errors")) == ("0", "0")
    assert calm.get("tests") == str(1 + len(CRITERIA))
    open_ = ElementTree.fromstring(written(replace(report, verdict=inconclusive("too few images")), "junit"))
    assert open_.get("errors") == "1"


def test_a_dry_run_is_skipped(clean: Report) -> None:
    """Nothing was looked for, so nothing passes."""
    findings = tuple(replace(f, not_done=PLANNED, value=None, p_value=None) for f in clean.findings)
    verdict = replace(clean.verdict, outcome="not scanned", reason="nothing was searched for (--dry-run)")
    root = ElementTree.fromstring(written(replace(clean, verdict=verdict, findings=findings), "junit"))
    assert root.get("skipped") == root.get("tests") == str(1 + len(CRITERIA))
    told = root.find(".//testcase[@name='verdict']/skipped")
    assert told is not None
    assert told.get("message", "").startswith("Not scanned. Nothing was searched for (--dry-run).")


def test_margin_says_nothing_of_other_tests(report: Report) -> None:
    """Others found the class, too."""
    assert sum(f.exceeds for f in report.findings) > 1
    failure = ElementTree.fromstring(written(report, "junit")).find(".//testcase[@name='margin']/failure")
    assert failure is not None
    assert re.fullmatch(r"Images can be made .* class 33 by a margin of 74\.4, against 14\.5 for the median class\.", failure.text or "")


def test_what_only_suspects_says_so(report: Report) -> None:
    rows = [line for line in written(report, "markdown").splitlines() if "(suspicious at most)" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| margin"]


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_names_of_strangers_stay_text(report: Report, name: str) -> None:
    marks = f"{HOSTILE[name]}[x](http://a.b) ![i](u) <img src=x> {{0}} @all | `code`"
    evil = replace(
        report,
        model=replace(hostile(report.model, marks), format=report.model.format, sha256=report.model.sha256),
        verdict=replace(report.verdict, reason=f"{report.verdict.reason} {marks}"),
        findings=tuple(replace(f, sentence=f"{f.sentence} {marks}") for f in report.findings),
        class_names=tuple(f"{c} {marks}" for c in range(43)),
        environment=report.environment | {"banscan": marks},
    )
    run = valid(json.loads(written(evil, "sarif")))
    for text in (r["message"]["text"] for r in run["results"]):
        assert text.isprintable()
        assert not re.search(r"(?<!\\)\[", text)
        assert "{0}" not in text.replace("{{", "").replace("}}", "")
    ElementTree.fromstring(written(evil, "junit"))
    text = written(evil, "markdown")
    assert all(line.isprintable() for line in text.split("\n"))
    for raw in (r"(?<!\\)<img", r"(?<!\\)\]\(", "@all", "http://"):
        assert not re.search(raw, text), raw


@pytest.mark.parametrize("quiet", [True, False])
def test_one_line_takes_the_place_of_no_document(quiet: bool) -> None:
    outputs.check("terminal", (), (), (), quiet=quiet)
    with pytest.raises(UsageError, match="--quiet prints one line in its place") if quiet else nullcontext():
        outputs.check("sarif", (), (), (), quiet=quiet)


def test_a_baseline_accepts_these_findings_of_this_file(report: Report, tmp_path: Path) -> None:
    file = tmp_path / "known.baseline.json"
    file.write_text(written(report, "baseline"))
    accepted = baseline.applied(report, baseline.load(file))
    assert settled(accepted)
    assert not settled(report)
    assert all("suppressions" in r for r in valid(to_sarif((accepted,)))["results"])
    assert ElementTree.fromstring(written(accepted, "junit")).get("failures") == "0"
    assert "Accepted" in written(accepted, "markdown")
    assert "accepts everything" in written(accepted, "terminal")
    assert read(written(accepted, "json")).accepted == accepted.accepted
    new = replace(report, findings=tuple(replace(f, classes=(7,)) if f.criterion == "perturbation" else f for f in report.findings))
    other = replace(report, model=replace(report.model, sha256="0" * 64))
    assert not settled(baseline.applied(new, baseline.load(file)))
    assert not settled(baseline.applied(other, baseline.load(file)))
    assert not settled(baseline.applied(replace(report, verdict=inconclusive("x")), baseline.load(file)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "banscan-baseline/1", "accepted": [{"fingerprint": 1}]}', "[" * 10**5])
def test_what_is_no_baseline_is_told(text: str, tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"known\.json: no baseline; expected a file that `banscan scan -o"):
        baseline.load(file)


@pytest.mark.parametrize(
    ("name", "format_"),
    [("r.json", "json"), ("r.SARIF", "sarif"), ("a.sarif.json", "sarif"), ("r.cdx.json", "cyclonedx"), ("k.baseline.json", "baseline")],
)
def test_the_end_of_a_name_says_the_format(name: str, format_: str) -> None:
    assert formats.of(Path(name)).name == format_


def test_unknown_suffixes_and_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"r\.pdf: the end of the name says the format; expected one of \.txt, \.json, "):
        formats.of(Path("r.pdf"))
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^r\.cdx\.json: .*pip install 'banscan\[sbom\]'$"):
        formats.check(formats.of(Path("r.cdx.json")), "r.cdx.json")


@pytest.mark.slow
def test_stored_reports_are_written_in_other_forms(tmp_path: Path) -> None:
    """Through the real entry point, with the exit codes of the scan; nothing else is left than what was asked for."""
    asked = [tmp_path / name for name in ("f.sarif", "t.xml", "s.md", "r.txt", "r.json", "k.baseline.json")]
    outputs = [word for path in asked for word in ("-o", path)]
    done = banscan("render", FOLDER / "backdoored.json", *outputs, "-q")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "examples/backdoored.onnx: Backdoored: class 33 looks like an attacker's target (score 67.53)\n"
    assert sorted(tmp_path.iterdir()) == sorted(asked)
    valid(json.loads((tmp_path / "f.sarif").read_text()))
    assert (tmp_path / "r.txt").read_text() == (FOLDER / "backdoored.txt").read_text()
    assert (tmp_path / "r.json").read_text() == (FOLDER / "backdoored.json").read_text()
    again = banscan("render", FOLDER / "backdoored.json", "--baseline", tmp_path / "k.baseline.json", "--format", "junit")
    assert (again.returncode, again.stderr) == (0, "the baseline accepts everything that was found, so the exit code is 0\n")
    assert ElementTree.fromstring(again.stdout).get("failures") == "0"
    assert banscan("render", FOLDER / "clean.json", "--format", "markdown").returncode == 0
    failed(banscan("render", tmp_path / "t.xml"), 4, r"t\.xml: no report; expected a file that `banscan scan -o FILE\.json` wrote")
    failed(banscan("render", FOLDER / "repaired.json"), 4, r"repaired\.json: no report of the schema banscan/2; expected a file")


RIVAL = {
    "preprocess": "raw",
    "outcome": "backdoored",
    "reason": "",
    "targets": [],
    "mapping": [],
    "criterion": None,
    "score": None,
    "seconds": 0.0,
    "shown": True,
}
DAMAGES: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("seconds", "noise"), "long", r"seconds\.noise: expected a finite number"),
    (("seconds", "noise"), float("inf"), r"seconds\.noise: expected a finite number"),
    (("verdict", "score"), 10**400, r"verdict\.score: expected a finite number"),
    (("verdict", "outcome"), "fine", r"verdict\.outcome: expected one of .*backdoored"),
    (("verdict", "targets"), [43], "classes: expected numbers from 0 on, below 43"),
    (("verdict",), [], "verdict: expected an object"),
    (("findings",), {}, "findings: expected an array"),
    (("model", "sha256"), "`<img src=x>`", r"model\.sha256: expected 64 hexadecimal digits"),
    (("findings", 0, "criterion"), "nose", "criterion: expected one of .*noise"),
    (("findings", 0, "exceeds"), 1, r"findings\.exceeds: expected true or false"),
    (("images", "used"), True, r"images\.used: expected a whole number"),
    (("model", "path"), None, r"model\.path: expected a text"),
    (("settings", "steps"), 0, "--steps 0: expected at least 1"),
    (("environment",), {}, "environment: expected device, kernels"),
    (("parity", "unsteady"), -64, r"parity\.unsteady: expected a number from 0 on"),
    (("rivals",), [RIVAL], "rivals: expected the preprocessings that the images leave open"),
    (("class_names",), [], "classes: expected numbers from 0 on, below 0"),
]


def put(document: Any, at: tuple[str | int, ...], value: Any) -> str:
    """The document, as text, with another value at this place."""
    changed = json.loads(json.dumps(document))
    inner = changed
    for name in at[:-1]:
        inner = inner[name]
    inner[at[-1]] = value
    return json.dumps(changed)


@pytest.mark.parametrize(("at", "value", "match"), DAMAGES)
def test_damaged_reports_are_told(at: tuple[str | int, ...], value: Any, match: str, report: Report, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(put(to_dict(report), at, value))
    expected = (
        rf"^{tmp_path}/r\.json: no report of the schema banscan/2 \(.*{match}.*\); expected a file that `banscan scan -o FILE\.json` wrote$"
    )
    with pytest.raises(UsageError, match=expected):
        read_file(tmp_path / "r.json")


def everywhere(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all values in a document, of lists the first two."""
    names = list(value) if isinstance(value, dict) else range(min(2, len(value))) if isinstance(value, list) else ()
    for name in names:
        yield (*at, name)
        yield from everywhere(value[name], (*at, name))


@pytest.mark.slow
def test_what_can_be_read_can_be_written_in_all_forms(report: Report) -> None:
    draw, document, readable = random.Random(0), to_dict(report), 0
    others = ("text", "", -1, 10**6, 10**400, float("nan"), None, [], {}, True, 0.5, [1, 2], [None], {"a": 1}, "\ud800\0")
    for at in everywhere(document):
        try:
            damaged = read(put(document, at, draw.choice(others)))
        except ValueError:
            continue
        readable += 1
        for format_ in formats.FORMATS:
            if format_.missing() is None:
                assert written(damaged, format_.name)
    assert readable > 20


@pytest.mark.slow
def test_a_dry_run_that_was_stored_makes_no_baseline(report: Report, tmp_path: Path) -> None:
    dry = replace(report, verdict=replace(report.verdict, outcome="not scanned"), findings=())
    (tmp_path / "r.json").write_text(written(dry, "json"))
    done = banscan("render", tmp_path / "r.json", "-o", tmp_path / "k.baseline.json")
    failed(done, 4, r"k\.baseline\.json: a dry run finds nothing that a baseline could accept; scan without --dry-run")
    assert not (tmp_path / "k.baseline.json").exists()


def test_a_bill_of_materials_holds_the_model_and_its_findings(report: Report, clean: Report) -> None:
    pytest.importorskip("cyclonedx")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    stream = io.StringIO()
    formats.named("cyclonedx").many((report, clean), FAILURES, stream)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(stream.getvalue()) is None
    document = json.loads(stream.getvalue())
    assert {c["type"] for c in document["components"]} == {"machine-learning-model"}
    assert {c["hashes"][0]["content"] for c in document["components"]} == {report.model.sha256, clean.model.sha256}
    found = document["vulnerabilities"]
    assert len(found) == len(results(report))
    assert all(v["affects"][0]["ref"].endswith(report.model.sha256) for v in found)
