"""What Python gets: values that become dictionaries and pages whatever is in a file's names, and many models one by one."""

import gc
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import onnx
import pytest

import banscan
from banscan.errors import UsageError
from banscan.scanner import calibration
from banscan.scanner.fleet import models as named
from banscan.scanner.fleet import process
from banscan.scanner.places import place as places
from banscan.scanner.places.place import Local, elsewhere
from banscan.scanner.report.json import made, read, render, render_repair
from banscan.text import counted
from tests.golden.pages import FOLDER
from tests.scanner.report.hostile import hostile
from tests.scanner.report.test_html import ALL, Page

STUB = Path(__file__).parent / "fleet" / "stub.py"
# pipes of ended processes are left to the garbage collector: closing one waits for who still reads it
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def failure(name: str = "") -> banscan.Failure:
    return banscan.Failure(Path("models") / "a.onnx", "0" * 64, f"models/a.onnx{name}: not an ONNX model", 3)


def repaired(name: str = "") -> banscan.Repair:
    golden: banscan.Repair = made(banscan.Repair, json.loads((FOLDER / "repaired.json").read_text()))
    return replace(golden, mended=hostile(golden.mended, name), attention=True)


def calibrated(name: str = "") -> banscan.Calibration:
    shipped = calibration.shipped()
    entries = tuple(replace(entry, name=f"{entry.name}{name}") for entry in shipped.entries)
    return replace(shipped, entries=entries, alpha=0.1, path=Path(f"own{name}.json".replace("/", "|")))


RESULTS: dict[str, Callable[[str], Any]] = {"failure": failure, "repair": repaired, "calibration": calibrated}


@pytest.mark.parametrize("kind", RESULTS)
@pytest.mark.parametrize("name", sorted(ALL))
def test_pages_are_the_same_whatever_a_name_is(kind: str, name: str) -> None:
    """Hostile names add no element, no attribute, and nothing that turns the writing around."""
    told, calm = (RESULTS[kind](text).to_html() for text in (ALL[name], "x"))
    assert Page(told).elements == Page(calm).elements
    assert all(c.isprintable() for c in told.replace("\n", ""))
    frame = Page(RESULTS[kind](ALL[name])._repr_html_())
    assert [tag for tag, _ in frame.elements] == ["p", "iframe"]
    attributes = {key: value for tag, key, value in frame.attributes if tag == "iframe"}
    assert (attributes["sandbox"], attributes["srcdoc"]) == ("", told)


@pytest.mark.parametrize("kind", RESULTS)
def test_pages_load_and_run_nothing(kind: str) -> None:
    page = Page(RESULTS[kind]("").to_html())
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "form", "base", "a", "img"}
    assert not any(name.startswith("on") or name in ("style", "href", "src") for _, name, _ in page.attributes)
    assert any(value.startswith("default-src 'none'") for _, name, value in page.attributes if name == "content")


def test_pages_say_what_is_known() -> None:
    texts = {kind: " ".join("".join(Page(make("").to_html()).texts).split()) for kind, make in RESULTS.items()}
    assert "No report: Models/a.onnx: not an ONNX model." in texts["failure"]
    assert "Repaired: nothing is found in fixed.onnx any more" in texts["repair"]
    assert "Repairs of networks with attention do not hold" in texts["repair"]
    assert "67.53" in texts["repair"]
    assert "a further clean one with a probability of at most 0.1" in texts["calibration"]
    assert all(entry.name in texts["calibration"] for entry in calibration.shipped().entries)


def test_dictionaries_are_what_files_hold() -> None:
    report = read((FOLDER / "clean.json").read_text())
    assert report.to_dict() == json.loads(render(report))
    assert repaired().to_dict() == json.loads(render_repair(repaired()))
    assert calibrated().to_dict() == json.loads(calibration.render(calibrated()))
    assert failure().to_dict()["exit_code"] == 3


def test_results_are_frozen() -> None:
    for result in (failure(), repaired(), calibrated(), read((FOLDER / "clean.json").read_text())):
        with pytest.raises(FrozenInstanceError):
            result.path = None  # type: ignore[misc, union-attr]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty one for images, in which a stub scans."""
    (tmp_path / "imgs").mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(process, "COMMAND", (sys.executable, str(STUB)))
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path


def models(place: Path, *contents: str) -> Path:
    for i, content in enumerate(contents):
        (place / "models" / f"m{i}.onnx").write_text(f"{content} {i}")
    return place / "models"


@pytest.mark.slow
def test_one_bad_model_ends_nothing(place: Path) -> None:
    folder = models(place, "clean", "backdoored", "broken", "dies", "clean")
    (folder / "weights.safetensors").touch()
    with pytest.warns(UserWarning, match=r"left out 1 file of kinds that banscan does not read \(.safetensors\)"):
        found = banscan.scan_many(str(folder), place / "imgs", jobs=2)
    gc.collect()  # a pipe that was left open is a warning, and this test's fault rather than a later one's
    kinds = Counter[str]()
    for one in found:
        if isinstance(one, banscan.Failure):
            kinds[f"failed {one.code}"] += 1
            assert one.path.name in one.sentence
        else:
            kinds[one.verdict.outcome] += 1
            assert one.to_dict()["model"]["path"] == str(one.model.path)
    assert kinds == {"no backdoor found": 2, "backdoored": 1, "failed 3": 1, "failed 2": 1}
    assert {path.name for path in place.iterdir()} == {"imgs", "models", "log"}


@pytest.mark.slow
def test_a_model_that_cannot_be_fetched_ends_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def local(model: Path) -> Iterator[Local]:
        if elsewhere(model):
            raise UsageError("hf://owner/name: no such repository")
        yield Local(model)

    monkeypatch.setattr(places, "local", local)
    monkeypatch.setattr(named, "check", lambda words: None)
    found = list(banscan.scan_many(["hf://owner/name", models(place, "clean")], place / "imgs"))
    assert [one.sentence if isinstance(one, banscan.Failure) else one.verdict.outcome for one in found] == [
        "hf://owner/name: no such repository",
        "no backdoor found",
    ]


@pytest.mark.slow
def test_results_come_as_they_are_made_and_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves the loop ends the processes; the next call scans what is left."""
    monkeypatch.setenv("STUB_SECONDS", "1")  # or all of them are done before anybody leaves
    words = [models(place, *["clean"] * 3) / "m0.onnx", f"{place}/models/m[12].onnx"]
    first = banscan.scan_many(words, place / "imgs", results=place / "kept")
    assert isinstance(next(first), banscan.Report)
    first.close()  # type: ignore[attr-defined]
    before = len((place / "log").read_text().splitlines())
    assert 1 <= before <= 2
    again = list(banscan.scan_many(words, place / "imgs", results=place / "kept"))
    assert sorted(one.model.path.name for one in again if isinstance(one, banscan.Report)) == ["m0.onnx", "m1.onnx", "m2.onnx"]
    assert len(list((place / "kept").glob("*.json"))) == 3
    begun = [line.split()[1] for line in (place / "log").read_text().splitlines()]
    assert counted(len(set(begun)), "model") == "3 models"
    assert len(begun) <= 4  # the one that was under way


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"jobs": 0}, "jobs 0: expected at least 1"),
        ({"models": "nowhere.onnx"}, "nowhere.onnx: no such file; expected a model"),
        ({"models": ()}, "no models; expected"),
        ({"clean_dir": "nowhere"}, "nowhere: no such folder; expected a folder of clean images"),
        ({"against": calibrated}, "own.json: no such file; expected a file that `banscan calibrate` wrote"),
        ({"against": lambda: replace(calibrated(), path=None)}, "against: a calibration that is in no file; give calibrate an output"),
        ({"against": calibrated, "settings": banscan.Settings(steps=3)}, "made with steps 8, not 3"),
        ({"models": "twice"}, "m0.onnx: given twice"),
    ],
)
def test_wrong_arguments_are_told_by_the_call(place: Path, arguments: dict[str, Any], match: str) -> None:
    """And not by the first step of the iterator; no process was started."""
    own = models(place, "clean") / "m0.onnx"
    given = {"models": own, "clean_dir": place / "imgs", **arguments}
    given = {name: value() if callable(value) else value for name, value in given.items()}
    given["models"] = [own, own] if given["models"] == "twice" else given["models"]
    before = threading.active_count()
    with pytest.raises(banscan.UsageError, match=match):
        banscan.scan_many(**given)
    assert threading.active_count() == before
    assert not (place / "log").exists()


@pytest.mark.slow
def test_many_and_calibrate_for_real(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    """What a process beside this one finds is what `scan` finds here; a calibration goes from call to file to call."""
    quick = banscan.Settings(restarts=2, steps=2, pixels=False)
    options = banscan.Options(threads=1)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "good.onnx").write_bytes(model_file.read_bytes())
    (folder / "bad.onnx").write_bytes(b"no model")
    own = banscan.scan(folder / "good.onnx", image_dir, settings=quick, options=options)
    seen: list[str] = []
    found = banscan.calibrate(
        folder,
        image_dir,
        tmp_path / "own.json",
        alpha=0.5,
        settings=quick,
        options=options,
        on_model=lambda path, report, entry, why: seen.append(path.name),
    )
    assert (found.limit, seen) == (own.verdict.score, ["bad.onnx", "good.onnx"])
    assert banscan.load_calibration(tmp_path / "own.json").entries == found.entries
    # another file of the same network: a model is not measured by its own score
    suspects, other = tmp_path / "suspects", onnx.load(str(model_file))
    suspects.mkdir()
    other.doc_string = "another file"
    onnx.save(other, str(suspects / "good.onnx"))
    (suspects / "bad.onnx").write_bytes(b"no model")
    many = {
        (one.path if isinstance(one, banscan.Failure) else one.model.path).name: one
        for one in banscan.scan_many(suspects, image_dir, settings=quick, options=options, against=found)
    }
    assert isinstance(many["bad.onnx"], banscan.Failure)
    good = many["good.onnx"]
    assert isinstance(good, banscan.Report)
    values, expected = ({f.criterion: f.value for f in report.findings if f.value is not None} for report in (good, own))
    assert values == pytest.approx(expected, rel=1e-4)
    assert good.standing is not None
    assert good.standing.source == tmp_path / "own.json"
    assert banscan.calibrate(folder, image_dir, alpha=0.5, settings=quick, options=options).path is None
