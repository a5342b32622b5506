"""Subjects that scans take, scans as processes with a limit, and tables that say what the rows say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from bench import gpu, rows
from bench.speed import page
from bench.whole import __main__ as whole
from bench.whole.__main__ import How, due, known, timed
from bench.whole.subjects import NETWORKS, SUBJECTS, Subject, build, small
from bench.whole.table import FAILED, REST, UNFINISHED, WHOLE, seconds, tables
from bench.whole.trees import ROOT, Tree, trees

HERE = torch.device("cpu")
HOW = How(1, "cpu", 60, ())
MACHINE = {"device": "cpu", "processor": "P", "threads": 2, "torch": "t"}


def of(name: str) -> Subject:
    return next(s for s in SUBJECTS if s.name == name)


def row(subject: str = "clean", **more: Any) -> dict[str, Any]:
    known = {
        "subject": subject,
        "beside": False,
        "commit": "c",
        "options": [],
        "machine": MACHINE,
        "load": 0.5,
        "limit": 60,
        "peak_mb": 1500,
    }
    done = {"seconds": 30.0, "outcome": "no backdoor found", "score": 0.5, "images": 430, "version": "0.2"}
    return known | done | {"stages": {"noise": 10.0, "patch": 15.0, "joint": 0.001}} | more


@pytest.mark.parametrize(("name", "count"), [("mobilenetv2", 3_504_872), ("vits16", 22_050_664), ("resnet50", 25_557_032)])
def test_networks_are_their_papers(name: str, count: int) -> None:
    """Parameters as the papers' own implementations have them, for 1,000 classes."""
    with torch.device("meta"):
        module = NETWORKS[name](1000, 64)
    assert sum(p.numel() for p in module.parameters()) == count


def test_mobilenet_has_all_its_strides() -> None:
    module = NETWORKS["mobilenetv2"](10, 16).eval()
    with torch.no_grad():
        assert module.blocks(module.stem(torch.zeros(1, 3, 224, 224))).shape[2:] == (7, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18-32-43", "mobilenetv2-224-100", "vits16-224-100"])
def test_a_subject_is_a_classifier_with_images(name: str, tmp_path: Path) -> None:
    subject = small(of(name))
    build(subject, tmp_path, HERE)
    model, folder = subject.places(tmp_path)
    assert json.loads(model.with_suffix(".json").read_text())["accuracy"] > 0.8
    images = sorted(folder.glob("*/*.png"))
    assert len(images) == subject.classes * subject.per_class
    assert len({path.read_bytes() for path in images}) == len(images)
    # a scan takes it
    found = timed(subject, tmp_path, Tree(ROOT, "c"), replace(HOW, options=("--dry-run",), limit=300))
    assert found["exit"] in (0, 2), found["reason"]
    assert found["images"] == len(images)
    assert found["stages"]["preprocess"] > 0
    assert 100 < found["peak_mb"] < 10_000
    assert abs(found["memory"]["process"] / 1e6 / found["peak_mb"] - 1) < 0.5
    # and what is there is not made anew
    shutil.rmtree(folder)
    build(subject, tmp_path, HERE)
    assert not folder.exists()


@pytest.fixture
def stub(tmp_path: Path) -> Tree:
    """Files of a banscan that writes down how it was called, and sleeps where it is told to."""
    package = tmp_path / "tree" / "banscan"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import json, os, sys, time\n"
        "time.sleep(60 * ('--slow' in sys.argv))\n"
        "if '--broken' in sys.argv: sys.exit('why')\n"
        "verdict = {'outcome': 'backdoored', 'score': 2.0, 'reason': ' '.join(sys.argv[1:])}\n"
        "environment = {'banscan': '9', 'search precision': os.environ.get('OMP_NUM_THREADS', 'none')}\n"
        "report = {'verdict': verdict, 'environment': environment, 'images': {'used': 3}, 'seconds': {'noise': 0.1}}\n"
        "open(sys.argv[sys.argv.index('-o') + 1], 'w').write(json.dumps(report))\n"
        "sys.exit(1)\n"
    )
    return Tree(package.parent, "c")


def test_a_scan_as_a_process(stub: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    stub.check()
    found = timed(of("clean"), tmp_path, stub, replace(HOW, options=("--seed", "1")))
    assert (found["exit"], found["outcome"], found["score"], found["version"], found["images"]) == (1, "backdoored", 2.0, "9", 3)
    assert found["reason"].startswith(str(ROOT / "examples" / "clean.onnx"))
    assert "--threads 1 --device cpu" in found["reason"]
    assert found["reason"].endswith("--seed 1")
    # threads are those that are asked for
    assert found["precision"] == "none"
    # another version gets no options of this one
    assert not timed(of("clean"), tmp_path, replace(stub, beside=True), replace(HOW, options=("--seed", "1")))["reason"].endswith("1")


def test_a_scan_that_meets_its_limit_or_fails_is_told(stub: Tree, tmp_path: Path) -> None:
    late = timed(of("clean"), tmp_path, stub, replace(HOW, options=("--slow",), limit=1))
    assert (late["outcome"], late["reason"], late["exit"]) == (UNFINISHED, "ended after 1 s", None)
    assert late["seconds"] < 30
    failed = timed(of("clean"), tmp_path, stub, replace(HOW, options=("--broken",)))
    assert (failed["outcome"], failed["reason"]) == (FAILED, "why")


def test_a_run_goes_on(stub: Tree, tmp_path: Path) -> None:
    """Rows of this commit, machine and options count; a failed one does not, and one that met its limit stands for all."""
    out, how = tmp_path / "rows.jsonl", HOW
    assert whole.measured(of("clean"), tmp_path, (stub,), how, 2, out) == 0
    assert len(rows.read(out)) == 2
    whole.measured(of("clean"), tmp_path, (stub,), how, 2, out)
    assert len(rows.read(out)) == 2
    for other in (replace(how, threads=2), replace(how, options=("--seed", "1"))):
        assert known(rows.read(out), of("clean"), stub, other) == []
    assert known(rows.read(out), of("clean"), replace(stub, commit="d"), how) == []
    late = [row(outcome=UNFINISHED, limit=60)]
    assert not due(late, 3, 60)
    assert due(late, 3, 61)
    assert due([row()], 2, 60)
    assert not due([row(), row()], 2, 60)
    assert whole.measured(of("clean"), tmp_path, (stub,), replace(how, options=("--broken",)), 1, out) == 1
    assert known(rows.read(out), of("clean"), stub, replace(how, options=("--broken",))) == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository")
def test_another_commit_is_taken_from_its_own_files() -> None:
    with trees(None, "HEAD") as (here, other):
        assert (here.folder, here.beside, other.beside) == (ROOT, False, True)
        assert (other.folder / "banscan" / "__init__.py").exists()
        assert (other.folder / "banscan" / "scanner" / "settings.py").exists()
    assert not other.folder.exists()


def test_tables() -> None:
    found = [
        row(seconds=99.0, commit="old"),
        row(seconds=30.0),
        row(seconds=20.0),
        row(seconds=40.0, outcome="suspicious", load=1.5),
        row(beside=True, commit="d99a411", seconds=60.0, version="0.1.0"),
        row(options=["--effort", "quick"], seconds=10.0, peak_mb=900, stages={"noise": 5.0}),
        row("resnet50-224-100", machine=MACHINE, memory={"process": 1, "cuda:0": 7_000_000_000}),
        row("resnet50-224-100", beside=True, commit="d99a411", outcome=UNFINISHED, limit=3600, seconds=3600.1),
        row("clean", outcome=FAILED),
        row("clean", machine=MACHINE | {"threads": 1}, seconds=77.0),
    ]
    del found[7]["version"], found[7]["images"], found[7]["stages"]
    shown = tables(found)
    example = "clean example: ResNet18 w16, 32×32, 43 classes, 430 images"
    assert f"| {example} | 0.2, c |  | 30.0 of 3 (20.0 to 40.0) | 2.0 | 1.5 GB |  | suspicious | 0.50 |" in shown
    assert f"| {example} | 0.2, c | `--effort quick` | 10.0 of 1 (10.0 to 10.0) | 6.0 | 0.9 GB |  | no backdoor found | 0.50 |" in shown
    assert f"| {example} | 0.1.0, d99a411 |  | 60.0 of 1 (60.0 to 60.0) |  |" in shown
    assert "| ResNet50, 224×224, 100 classes, 430 images | 0.2, c |  | 30.0 of 1 (30.0 to 30.0) | over 120.0 | 1.5 GB | 7.0 GB |" in shown
    assert "| ResNet50, 224×224, 100 classes | d99a411 |  | not finished after 3,600 |  |" in shown
    assert "99.0" not in shown
    assert "as its load: 0.5 to 1.5." in shown
    assert "| noise | 10.0 | 10.0 |\n| patch | 15.0 | 15.0 |\n" in shown
    assert "joint" not in shown
    assert f"| {REST} | 5.0 | 5.0 |\n| {WHOLE} | 30.0 | 30.0 |\n" in shown
    assert "| stage, median s, `--effort quick` | clean |\n" in shown
    assert shown.count("### Scans on P") == 2
    assert seconds(row(), REST) == pytest.approx(5.0, abs=0.01)


def test_the_page_is_made_from_the_rows(tmp_path: Path) -> None:
    made = tmp_path / "speed.md"
    page.write(made, *(ROOT / "bench" / "results" / name for name in ("whole.jsonl", "speed.jsonl")))
    assert made.read_text() == (ROOT / "docs" / "speed.md").read_text()


def test_a_rehearsal_leaves_no_rows_among_the_others() -> None:
    result = CliRunner().invoke(whole.main, ["--small"])
    assert result.exit_code == 2
    assert "give an --out of their own" in result.output


def test_a_gpu_is_asked_for_every_subject() -> None:
    assert set(gpu.WHOLE) == {s.name for s in SUBJECTS}
    assert len(SUBJECTS) == len(gpu.WHOLE)
