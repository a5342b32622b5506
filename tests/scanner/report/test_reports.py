"""Reports against golden files, which are what README and docs show, and against the schema."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from banscan.scanner.findings import Finding, Report, Verdict
from banscan.scanner.levels import Levels
from banscan.scanner.report import formats, terminal
from banscan.scanner.report.json import plain, read, render, to_dict
from banscan.scanner.report.pieces import chance, headline, sentence
from banscan.scanner.verdict import decide, inconclusive
from banscan.text import ENCODED
from tests.golden.pages import BLOCK, FOLDER, PAGES, ROOT, rendered, shown
from tests.scanner.measured import clean, findings, neurons
from tests.scanner.report.hostile import marked as mark
from tests.test_text import HOSTILE

jsonschema = pytest.importorskip("jsonschema")
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "report.schema.json").read_text())
SCANS = ("backdoored", "clean")


@pytest.fixture
def report() -> Report:
    return read((FOLDER / "backdoored.json").read_text())


def printed(report: Report, format_: str = "terminal") -> str:
    stream = io.StringIO()
    formats.named(format_).scan(report, stream)
    return stream.getvalue()


def test_restarts_that_were_not_made_are_a_bound(report: Report) -> None:
    """A dry run makes none, and a first look fewer than the settings have."""
    assert report.aside is not None
    assert f"steps, {report.aside.restarts} restart" in " ".join(printed(report).split())
    assert f"steps, up to {report.settings.restarts} restarts" in " ".join(printed(replace(report, aside=None)).split())


@pytest.mark.parametrize("source", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_text_is_the_golden_one(source: Path) -> None:
    assert rendered(source) == source.with_suffix(".txt").read_text(), "run python -m tests.golden --render"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_show_the_golden_texts(page: Path) -> None:
    assert BLOCK.search(page.read_text())
    assert shown(page.read_text()) == page.read_text(), "run python -m tests.golden --render"


@pytest.mark.parametrize("name", SCANS)
def test_json_fits_the_schema_and_comes_back(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text()
    jsonschema.validate(json.loads(text), SCHEMA)
    assert render(read(text)) == text


def test_a_scan_that_stopped_early_fits_the_schema(report: Report) -> None:
    stopped = Report(
        verdict=inconclusive("too few images"),
        model=report.model,
        images=report.images,
        settings=report.settings,
        environment=report.environment,
    )
    jsonschema.validate(to_dict(stopped), SCHEMA)
    assert "Too few images." in printed(stopped)


@pytest.mark.parametrize("kind", [Report, Verdict, Finding])
def test_every_field_is_documented(kind: type) -> None:
    page = (ROOT / "docs" / "report.md").read_text()
    properties = SCHEMA["properties"] if kind is Report else SCHEMA["$defs"][kind.__name__]["properties"]
    names = [f for f in properties if f != "schema"]
    # pictures are for pages that people read
    assert names == [f for f in kind.__dataclass_fields__ if f != "evidence"]  # type: ignore[attr-defined]
    assert all(f"| `{name}` |" in page for name in names)


def test_colours_are_the_findings_own(report: Report) -> None:
    """A row is coloured as the verdict has it, also where a calibration passes what the usual levels would not."""
    levels = Levels(calibrated=1000.0)
    passed = tuple(levels.applied(f) for f in report.findings)
    calm = replace(report, findings=passed, verdict=decide(passed, levels))
    assert calm.verdict.outcome == "no backdoor found"
    assert any(f.exceeds for f in report.findings)
    assert not any(f.exceeds or f.suspects for f in passed)


def test_values_above_a_limit_that_decide_nothing_are_explained(report: Report) -> None:
    """No verdict for a kind of model that was not measured, a lead that changes between restarts, and a fragile network."""
    assert "Above the limit" not in printed(report)
    uncovered = replace(report, verdict=decide(report.findings, Levels(uncovered="it has 3 classes")))
    assert uncovered.verdict.outcome == "inconclusive"
    assert "which was set on other kinds of model and decides nothing here: " in " ".join(printed(uncovered).split())
    for steady, why in ((False, "not with the same class in every restart"), (True, "other classes are reached nearly as well")):
        found = tuple(replace(f, exceeds=False, suspects=False, steady=steady, score=0.0) for f in report.findings)
        calm = replace(report, findings=found, verdict=inconclusive("nothing"))
        assert why in " ".join(printed(calm).split())
        assert "kinds of model" not in printed(calm)


def test_suspicious_values_below_a_limit_are_explained(report: Report) -> None:
    """Where there are any: the limit is that of a backdoor."""
    noise = report.findings[0]
    assert noise.value is not None
    assert noise.limit is not None
    assert (noise.exceeds, noise.value < noise.limit) == (False, True)
    suspicious, calm = (replace(report, findings=(replace(noise, suspects=s), *report.findings[1:])) for s in (True, False))
    for format_ in ("terminal", "html"):
        texts = [" ".join(printed(of, format_).split()) for of in (suspicious, calm)]
        assert all("from the limit on" in text for text in texts)
        assert ["below it as suspicious where p is at most 0.02" in text for text in texts] == [True, False]


def test_what_was_not_done_is_in_every_report() -> None:
    found = findings(neurons(clean()), None, Levels())
    full = read((FOLDER / "clean.json").read_text())
    partly = replace(full, findings=found, verdict=decide(found, Levels()))
    for format_ in (f for f in formats.FORMATS if f.missing() is None and f.name != "baseline"):
        text = " ".join(printed(partly, format_.name).split())
        assert "--no-pixels leaves out" in text
        assert all(f.criterion in text for f in found if f.not_done is not None), format_.name


def test_class_names_are_printed_as_they_are(report: Report) -> None:
    named = replace(report, class_names=tuple(f"[red]class {c}[/]" for c in range(43)))
    assert "33 ([red]class 33[/])" in printed(named)
    assert "class 33 ([red]class 33[/])" in headline(named)


@pytest.fixture(params=sorted(HOSTILE))
def marked(report: Report, request: pytest.FixtureRequest) -> Report:
    """A report in which every text that can come from a file is hostile."""
    return mark(report, HOSTILE[request.param])


def test_terminals_obey_nothing_of_a_report(marked: Report) -> None:
    text = printed(marked)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "\\" in text
    assert max(map(cell_len, text.split("\n"))) <= 100


def test_json_is_harmless_and_true(marked: Report) -> None:
    text = printed(marked, "json")
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert json.loads(text)["class_names"] == list(marked.class_names or ())
    assert read(text).model.path == marked.model.path


@pytest.mark.parametrize("width", [1, 20, 40, 300])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp437"])
def test_any_width_and_encoding(report: Report, width: int, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    kept = io.BytesIO()
    stream = io.TextIOWrapper(kept, encoding=encoding, errors=ENCODED)
    monkeypatch.setattr(stream, "isatty", lambda: True)
    formats.named("terminal").scan(replace(report, class_names=tuple("\u6b62" * c for c in range(1, 44))), stream)
    stream.flush()
    written = kept.getvalue()
    assert b"ackdoored" in written
    if encoding == "ascii" and width == 300:
        assert all(glyph in written for glyph in (b"####", b"100%"))


def on_a_terminal(report: Report, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name, value in (("COLUMNS", str(width)), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    formats.named("terminal").scan(report, stream)
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in stream.getvalue().split("\n")]


@pytest.mark.parametrize("name", SCANS)
def test_the_first_screen_says_what_matters(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = read((FOLDER / f"{name}.json").read_text())
    first = " ".join(" ".join(on_a_terminal(known, 80, monkeypatch)[:24]).replace("│", " ").split())
    for words in (headline(known), sentence(known.verdict.reason), known.verdict.next_step):
        assert words in first
    assert ("with probability 2.9e-08" in first) == (name == "backdoored")


def test_40_columns_cut_no_number(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = on_a_terminal(report, 40, monkeypatch)
    assert max(map(cell_len, lines)) <= 40
    begin, end = lines.index(next(x for x in lines if "What was looked for" in x)), lines.index(next(x for x in lines if "Value:" in x))
    rows = lines[begin + 2 : end]
    assert len(rows) == len(report.findings)
    assert not any("…" in row for row in rows)
    assert any(row.split() == ["perturbation", "33", "9.02", "5.43", "3.1e-08"] for row in rows)
    assert any(line.split()[:1] == ["33"] and line.split()[-1] == "85%" for line in lines)


def test_verbose_cuts_nothing_short(report: Report) -> None:
    stream = io.StringIO()
    terminal.write_all(report, stream)
    text = stream.getvalue()
    assert report.model.sha256 in "".join(text.split())
    assert len(re.findall(r"\d+% +\d+\.\d% +\d+\.\d%", text)) == len(report.reach)
    assert report.preprocess is not None
    assert all(score.name in text for score in report.preprocess.table)


def test_names_that_mean_something_to_the_printer(report: Report) -> None:
    """Marks of style, links and names of emoji of the library that prints are text here."""
    names = ["[bold]x[/bold]", "[link=http://a.b]x[/link]", "[/]", "[[x]]", ":bomb:", "\\[red]", "x" * 500]
    told = printed(replace(report, class_names=(*names[:-1] * 5, "a", "b", "c", "[bold]:bomb:[/]", *"defghijkl")[:43]))
    assert "33 ([bold]:bomb:[/])" in told
    long = printed(replace(report, class_names=("x" * 5000,) * 43))
    assert "xxx…xxx" in long
    assert len(long) < 2 * len(printed(report))


def test_words_and_numbers() -> None:
    assert (chance(1.0), chance(0.051), chance(0.0012)) == ("1", "0.05", "1.2e-03")
    assert sentence("no class stands out") == "No class stands out."
    assert plain({"a": (1.23456789, float("nan"), Path("x"))}) == {"a": [1.23457, None, "x"]}
