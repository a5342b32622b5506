"""Calibration: its bound, what it covers, its file, and the two commands that use it."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from banscan import importers, scan
from banscan.errors import BanscanError, UsageError
from banscan.importers import sha256
from banscan.importers.normal.attention import attends
from banscan.scanner import calibrate as module
from banscan.scanner import calibration
from banscan.scanner.calibrate import calibrate
from banscan.scanner.calibration import Calibration, Entry, decisive, threshold
from banscan.scanner.criteria import class_maps
from banscan.scanner.findings import Kind
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.settings import Options, Settings, declared
from tests.scanner.cli.test_main import FAST, banscan, failed
from tests.scanner.measured import clean, judge, neurons, pixels

COMMON = Kind(classes=43, size=32, attention=False)


def made(scores: list[float], alpha: float | None = 0.05, kind: Kind = COMMON) -> Calibration:
    entries = tuple(Entry(f"m{i}.onnx", "0" * 64, kind, s) for i, s in enumerate(scores))
    return Calibration(entries, alpha, decisive(Settings()), 430, "0", Path("own.json"))


@pytest.mark.parametrize(("count", "alpha"), [(19, 0.05), (39, 0.05), (9, 0.1), (30, 0.2), (60, 0.05)])
def test_bound_holds_whatever_the_scores_are_like(count: int, alpha: float) -> None:
    """Over many draws of n + 1 scores from a skewed law, the last exceeds the threshold of the others at most at rate alpha."""
    rng = np.random.default_rng(0)
    draws = rng.lognormal(sigma=2, size=(20_000, count + 1))
    rate = np.mean([row[-1] > threshold(list(row[:-1]), alpha) for row in draws])
    assert rate <= alpha + 3 * (alpha / len(draws)) ** 0.5
    assert rate > alpha / 3


def test_too_few_models() -> None:
    with pytest.raises(UsageError, match="at least 19"):
        threshold([0.1] * 18, 0.05)
    assert threshold([0.1] * 19, 0.05) == 0.1
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError, match="--alpha"):
            threshold([0.1] * 19, alpha)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (COMMON, None),
        (Kind(86, 64, False), None),
        (Kind(1000, 32, False), "1000 classes"),
        (Kind(43, 224, False), "224 pixels"),
        (Kind(43, 32, True), "attention"),
    ],
)
def test_coverage(kind: Kind, why: str | None) -> None:
    reason = made([0.1] * 19).uncovered(kind)
    assert (reason is None) if why is None else (reason is not None and why in reason)


def test_networks_with_attention_stand_for_their_own_sizes_only() -> None:
    both = made([0.1] * 19)
    few = Entry("transformer", "0" * 64, Kind(10, 32, True), 0.1)
    both = replace(both, entries=(*both.entries, few))
    assert both.uncovered(COMMON) is None
    assert both.uncovered(Kind(10, 32, True)) is None
    for kind in (Kind(10, 32, False), Kind(43, 32, True)):
        assert f"{kind.classes} classes" in (both.uncovered(kind) or "")


@pytest.mark.parametrize(
    ("classes", "size", "why"),
    [
        (43, 32, None),
        (10, 64, None),
        (10, 224, None),
        (20, 448, None),
        (10, 32, "22 to 86"),
        (43, 224, "5 to 20"),
        (10, 500, "16 to 448"),
    ],
)
def test_classes_are_measured_at_their_size(classes: int, size: int, why: str | None) -> None:
    """Many classes of small images say nothing of as many of large ones."""
    both = made([0.1] * 19)
    both = replace(both, entries=(*both.entries, *(Entry(str(n), "0" * 64, Kind(10, n, False), 0.1) for n in (96, 224))))
    reason = both.uncovered(Kind(classes, size, False))
    assert (reason is None) if why is None else (reason is not None and why in reason)


@pytest.mark.parametrize("limit", [0.3, 1.0, 3.0])
def test_own_limit_takes_the_place_of_the_thresholds(limit: float) -> None:
    calm = judge(neurons(clean()), pixels())
    assert calm.score is not None
    assert calm.score < 1
    assert judge(neurons(clean()), pixels(), calm.score).outcome == "no backdoor found"
    assert judge(neurons(clean()), pixels(), calm.score - 1e-6).outcome == "backdoored"
    raised = neurons(clean())
    raised["moved"][:, 7] = 0.9
    own = judge(raised, pixels(), limit)
    assert own.score is not None
    assert own.outcome == ("backdoored" if own.score > limit else "no backdoor found")


def test_score_is_one_at_the_threshold() -> None:
    everyone = tuple((c + 1) % 43 for c in range(43))
    for moved, outcome in ((class_maps.LIMIT - 1e-4, "no backdoor found"), (class_maps.LIMIT, "backdoored")):
        mapped = judge(neurons(clean()), pixels(pixel_map=(Mapped(everyone, moved), None)))
        assert mapped.outcome == outcome
    assert class_maps.score(class_maps.LIMIT, class_maps.LIMIT) == 1


def test_levels_are_those_of_the_calibration() -> None:
    own = made([0.1, 0.5, 0.2] * 7)
    assert (own.levels(COMMON).calibrated, own.levels(COMMON).uncovered) == (0.5, None)
    assert "1000 classes" in str(own.levels(Kind(1000, 32, False)).uncovered)
    assert made([0.1] * 19, None).levels(COMMON).calibrated is None


@pytest.mark.slow
def test_a_model_is_not_measured_by_itself(model_file: Path, image_dir: Path) -> None:
    """It could never exceed a limit that its own score raised."""
    own = made([0.1] * 19)
    mine = replace(own, entries=(*own.entries, Entry("mine.onnx", sha256(model_file), COMMON, 7.0)))
    report = scan(model_file, image_dir, settings=Settings(min_images=1), options=Options(device="cpu"), against=mine)
    assert report.verdict.outcome == "inconclusive"
    assert report.verdict.reason == "it is one of the clean models of own.json (mine.onnx); calibrate without it"
    assert report.findings == ()
    own.check_model(sha256(model_file))
    replace(mine, alpha=None).check_model(sha256(model_file))


def test_every_setting_says_whether_it_is_decisive() -> None:
    """A calibration holds for one value of those that change what a score means."""
    names = {field.name: told.decisive for field, told in declared(Settings)}
    assert {name for name, decides in names.items() if not decides} == {"seed", "controls", "min_images", "min_accuracy"}
    assert set(decisive(Settings())) == {name for name, decides in names.items() if decides}


def test_attention_is_seen(export, model_file: Path) -> None:  # type: ignore[no-untyped-def]
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 16, 4, stride=4)
            self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
            self.head = nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            t = self.embed(x).flatten(2).transpose(1, 2)
            return self.head((t + self.attend(t, t, t)[0]).mean(1))

    assert attends(importers.load(export("attending", Attending().eval())).module)
    assert not attends(importers.load(model_file).module)


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    own = made([0.1, 0.5, 0.2] * 7)
    path.write_text(calibration.render(own))
    read = calibration.load(path)
    assert read.entries == own.entries
    assert read.limit == own.limit == 0.5
    read.check(Settings())
    with pytest.raises(UsageError, match="restarts 4, not 2"):
        read.check(Settings(restarts=2))


def document(**changed: Any) -> bytes:
    """A calibration with other values in it, or in its first model."""
    own = json.loads(calibration.render(made([0.1] * 19)))
    for key, value in changed.items():
        (own if key in own else own["models"][0] if key in own["models"][0] else own["models"][0]["kind"])[key] = value
    return json.dumps(own).encode()


DAMAGED = {
    "empty": b"",
    "object": b"{}",
    "list": b"[]",
    "number": b"1",
    "other schema": b'{"schema": "banscan-calibration/9"}',
    "null byte": b"\0",
    "binary": bytes(range(256)),
    "not UTF-8": b'{"schema": "\xff"}',
    "nested lists": b"[" * 10**5,
    "nested objects": b'{"schema":' * 10**5,
    "nested settings": document(settings=[]).replace(b"[]", b"[" * 5000 + b"]" * 5000, 1),
    "digits": document(images="DIGITS").replace(b'"DIGITS"', b"1" * 5000),
    "NaN": document(score=float("nan")),
    "infinity": document(score=float("inf")),
    "beyond floats": document(score=10**400),
    "score as text": document(score="0.1"),
    "alpha": document(alpha=float("nan")),
    "alpha of one": document(alpha=1),
    "alpha as text": document(alpha="0.05"),
    "no models": document(models=[]),
    "models of another kind": document(models={"a": 1}),
    "settings as a list": document(settings=[1]),
    "images as text": document(images="many"),
    "classes as text": document(classes="ten"),
    "classes beyond any": document(classes=10**400),
    "no classes": document(classes=0),
    "size": document(size=None),
    "size beyond any": document(size=10**400),
    "attention": document(attention=1),
    "name": document(name=3),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"c\.json: no calibration; expected a file that `banscan calibrate` wrote"):
        calibration.load(path)


def test_what_is_no_calibration_at_all(tmp_path: Path) -> None:
    large, few, old = (tmp_path / f"{name}.json" for name in ("large", "few", "old"))
    old.write_bytes(document(schema="banscan-calibration/1"))
    with large.open("wb") as file:
        file.truncate(1 << 33)
    few.write_bytes(document(models=json.loads(document())["models"][:3]))
    places = {tmp_path: "is a folder", tmp_path / "none": "no such file", Path("/dev/zero"): "is no file"}
    none = ((path, f"{why}; expected") for path, why in places.items())
    for path, why in (
        *none,
        (old, "earlier version, whose tests were others; calibrate again"),
        (large, "no calibration; expected"),
        (few, r"few\.json: 3 clean models .* at least 19"),
    ):
        with pytest.raises(UsageError, match=why):
            calibration.load(path)


@pytest.mark.slow
def test_damaged_file_on_the_command_line(tmp_path: Path, model_file: Path, image_dir: Path) -> None:
    (tmp_path / "c.json").write_bytes(DAMAGED["nested lists"])
    failed(banscan(model_file, "--clean-dir", image_dir, "--calibration", tmp_path / "c.json"), 4, "c.json: no calibration")


ROW = {"clean_dir": "", "settings": {}, "seed": 0, "banscan": "", "images": 1, "entry": json.loads(document())["models"][0]}
LEFT = {
    "binary": bytes(range(256)) + b"\n",
    "text": b"notes of mine\n",
    "nested": b"[" * 10**5 + b"\n",
    "another object": b"{}\n",
    "images": json.dumps(ROW | {"images": "x"}).encode() + b"\n",
    "score": json.dumps(ROW).encode().replace(b"0.1", b"NaN") + b"\n",
    "one of several": json.dumps(ROW).encode() + b"\n{}\n",
}


@pytest.fixture
def nineteen(tmp_path: Path) -> Path:
    """As many files as a calibration needs, none of them a model."""
    folder = tmp_path / "models"
    folder.mkdir()
    for i in range(19):
        (folder / f"{i}.onnx").write_bytes(b"%d" % i)
    return folder


@pytest.mark.parametrize("data", [*LEFT.values(), None], ids=[*LEFT.keys(), "folder"])
def test_what_another_program_left_is_not_added_to(tmp_path: Path, nineteen: Path, data: bytes | None) -> None:
    partial = tmp_path / "own.json.partial"
    partial.mkdir() if data is None else partial.write_bytes(data)
    with pytest.raises(UsageError, match=r"own\.json\.partial: not what a calibration left that was stopped; remove it"):
        calibrate(nineteen, nineteen, tmp_path / "own.json")
    assert data is None or partial.read_bytes() == data


def test_a_line_that_was_cut_off_is_computed_again(tmp_path: Path, nineteen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = tmp_path / "own.json.partial"
    whole = json.dumps(ROW).encode() + b"\n"
    partial.write_bytes(whole + whole[:50])
    monkeypatch.setattr(module, "_scan", lambda path, *rest: (Entry(path.name, sha256(path), COMMON, 0.1), 5))
    monkeypatch.setattr(module, "threshold", lambda scores, alpha: 1.0)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    assert len(calibrate(nineteen, nineteen, tmp_path / "own.json").entries) == 19
    first, *lines = partial.read_bytes().splitlines(keepends=True)
    assert first == whole
    assert [json.loads(line)["entry"]["name"] for line in lines] == sorted(p.name for p in nineteen.iterdir())


@pytest.mark.parametrize(
    ("options", "anew"), [(Options(), 1), (Options(threads=1), 1), (Options(max_images=7), 19), (Options(bgr=True), 19)]
)
def test_scores_of_another_reading_are_not_taken_over(
    tmp_path: Path, nineteen: Path, monkeypatch: pytest.MonkeyPatch, options: Options, anew: int
) -> None:
    """Stopped at the last model, and called again."""
    asked: list[str] = []
    stops = iter([True])

    def scan(path: Path, *rest: object) -> tuple[Entry, int]:
        asked.append(path.name)
        if len(asked) == 19 and next(stops, False):
            raise KeyboardInterrupt
        return Entry(path.name, sha256(path), COMMON, 0.1), 5

    monkeypatch.setattr(module, "_scan", scan)
    with pytest.raises(KeyboardInterrupt):
        calibrate(nineteen, nineteen, tmp_path / "own.json", options=Options())
    asked.clear()
    calibrate(nineteen, nineteen, tmp_path / "own.json", options=options)
    assert len(asked) == anew


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_no_room_for_what_is_done(tmp_path: Path, nineteen: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(module, "_scan", lambda path, *rest: (Entry(path.name, sha256(path), COMMON, 0.1), 5))
    opened = Path.open

    def full(path: Path, mode: str = "r", **more: Any) -> Any:
        if mode == "a":
            raise OSError(number, os.strerror(number))
        return opened(path, mode, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(BanscanError, match=rf"own\.json\.partial: cannot be written \({os.strerror(number)}\)"):
        calibrate(nineteen, nineteen, tmp_path / "own.json")


def test_shipped_scores_stand_for_something() -> None:
    shipped = calibration.shipped()
    assert shipped.alpha is None
    assert shipped.limit == 1
    assert shipped.settings == decisive(Settings())
    assert len(shipped.entries) >= 10
    assert all(0 <= e.score < 1 for e in shipped.entries)


@pytest.mark.slow
def test_calibrate_resumes_and_scan_uses_it(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    models, out = tmp_path / "models", tmp_path / "own.json"
    models.mkdir()
    shutil.copy(model_file, models / "a.onnx")
    (models / "b.onnx").write_bytes(b"no model")
    common = ("--clean-dir", image_dir, *FAST, "--no-pixels")
    failed(banscan("calibrate", "--clean-models", models, *common, "-o", out), 4, "at least 19 for --alpha 0.05")
    short = banscan("calibrate", "--clean-models", models, *common, "--alpha", "0.4", "-o", out)
    failed(short, 4, "1 clean model can bound the false-positive rate by 0.500")
    assert "b.onnx: left out" in short.stderr
    assert not out.exists()
    other = onnx.load(str(model_file))
    other.doc_string = "another file"
    onnx.save(other, str(models / "b.onnx"))
    shutil.copy(model_file, models / "c.onnx")
    done = banscan("calibrate", "--clean-models", models, *common, "--alpha", "0.4", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "a.onnx: score" in done.stderr
    assert "scanned before" in done.stderr
    assert "c.onnx: left out, the same model as a.onnx" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models", "own.json"]
    found = json.loads(out.read_text())
    assert [m["name"] for m in found["models"]] == ["a.onnx", "b.onnx"]
    assert found["limit"] == found["models"][0]["score"]
    suspect = tmp_path / "suspect.onnx"
    other.doc_string = "yet another"
    onnx.save(other, str(suspect))
    result = banscan(suspect, *common, "--calibration", out, "--format", "json")
    report = json.loads(result.stdout)
    assert report["standing"]["p_value"] == 1
    assert report["standing"]["models"] == 2
    assert report["verdict"]["outcome"] == "no backdoor found"
    assert result.returncode == 0
    failed(banscan(model_file, "--clean-dir", image_dir, *FAST, "--calibration", out), 4, "made with pixels False, not True")
    shown = " ".join(banscan(suspect, *common, "--calibration", out).stdout.split())
    assert "of the 2 clean models of" in shown
    assert "2 score as high" in shown
