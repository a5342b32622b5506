"""Many models through the real entry point, with a stub in place of the process that scans, and once without."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from banscan.errors import BanscanError, UsageError
from banscan.scanner.cli.commands import run
from banscan.scanner.fleet import process, table
from banscan.scanner.fleet.job import Job
from banscan.scanner.fleet.shard import Shard, parse
from banscan.scanner.request import Request

ROOT = Path(__file__).parents[3]
STUB = Path(__file__).with_name("stub.py")
STUBBED = "import sys\nimport banscan.scanner.fleet.process as process\nprocess.COMMAND = (sys.executable, {stub!r})\n"
MAIN = "from banscan.scanner.cli.main import main\nmain()\n"
pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an empty one for images."""
    (tmp_path / "imgs").mkdir()
    return tmp_path


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process in that folder, with its own place for temporary files afterwards."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    for name in ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, str(place))


def refused(arguments: Sequence[object], code: int, match: str) -> None:
    """A command that ends with an error, run in this process, which has torch already."""
    tempfile.tempdir = None
    os.environ["TMPDIR"] = str(Path.cwd())
    with pytest.raises(BanscanError, match=match) as caught:
        run(list(map(str, arguments)))
    assert caught.value.exit_code == code


def models(place: Path, *contents: str, folder: str = "models") -> Path:
    """Files of these contents, told apart by a number."""
    made = place / folder
    made.mkdir(exist_ok=True)
    for i, content in enumerate(contents):
        (made / f"m{i:03d}.onnx").write_text(f"{content} {i}")
    return made


def start(place: Path, *arguments: object, stub: bool = True, **environment: str) -> "subprocess.Popen[str]":
    code = (STUBBED.format(stub=str(STUB)) if stub else "") + MAIN
    known = {**os.environ, "PYTHONPATH": str(ROOT), "STUB_LOG": str(place / "log"), "OMP_NUM_THREADS": "2", **environment}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # who runs the tests in the background may ignore it, and what is started inherits that
    return subprocess.Popen(command, cwd=place, env=known, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes)


def ended(place: Path, *arguments: object, **more: Any) -> tuple[int, str, str]:
    with start(place, *arguments, **more) as process:
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def begun(place: Path) -> Counter[str]:
    """How often each model was begun; none may have been begun that was done."""
    rows = [line.split() for line in (place / "log").read_text().splitlines()] if (place / "log").exists() else []
    assert {word for word, _ in rows} <= {"begun"}
    return Counter(digest for _, digest in rows)


def results(folder: Path) -> list[dict[str, Any]]:
    """All results; each is whole."""
    return [json.loads(path.read_text()) for path in folder.glob("*.json") if not path.name.startswith("shard")]


def told(ended_: tuple[int, str, str], code: int, match: str) -> None:
    """One sentence on stderr."""
    assert ended_[0] == code, ended_
    assert re.search(match, ended_[2]), ended_[2]
    assert ended_[2].count("\n") == 1
    assert "Traceback" not in ended_[2]


def test_a_line_each_a_summary_and_the_gravest_code(place: Path) -> None:
    folder = models(place, "clean", "backdoored", "broken", "dies", "clean")
    (folder / "copy.onnx").write_text("clean 0")
    (folder / "weights.safetensors").write_text("x")
    code, out, err = ended(place, "scan", folder, "--clean-dir", "imgs", "--jobs", 2, "-o", "all.sarif", "-o", "all.xml", "-o", "all.json")
    assert code == 1
    assert "left out 1 file of kinds that banscan does not read (.safetensors)" in err
    lines = [line for line in out.splitlines() if line.startswith("[")]
    assert [line.partition("]")[0] for line in lines] == [f"[{i}/6" for i in range(1, 7)]
    assert any("m001.onnx: Backdoored: class 33 looks like" in line for line in lines)
    assert any("m002.onnx: Failed: not an ONNX model" in line for line in lines)
    assert any("m003.onnx: Failed: the process that scanned it was ended by SIGKILL, perhaps for want of memory" in line for line in lines)
    assert out.splitlines()[-1] == "6 models: 1 backdoored, 2 failed, 3 no backdoor found"
    assert len(results(place / "banscan-results")) == 5
    run = json.loads((place / "all.sarif").read_text())["runs"][0]
    assert len(run["artifacts"]) == 4
    assert len(run["invocations"][0]["toolExecutionNotifications"]) == 2
    assert len(json.loads((place / "all.json").read_text())["reports"]) == 4
    again = ended(place, "merge", "banscan-results", "-q")
    assert again[:2] == (1, "6 models: 1 backdoored, 2 failed, 3 no backdoor found\n")


def test_how_far_a_scan_is_comes_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line, of a process that is killed, is nothing."""
    seen: list[tuple[object, ...]] = []
    told = """import sys; sys.stdin.readline(); print('["reading", 1, 4, null]\\n["read', end="", flush=True)"""
    for command, code in (((sys.executable, str(STUB)), None), ((sys.executable, "-c", told), 0)):
        monkeypatch.setattr(process, "COMMAND", command)
        monkeypatch.setenv("STUB_LOG", str(place / "log"))
        hand = process.Processes(1, 1, lambda *more: seen.append(more)).hand()
        job = Job(next(models(place, "clean").iterdir()), place / "imgs", Request())
        assert hand.done(job.order(place / "r.json", "0" * 64, job.asked())) == code
        hand.end()
    assert [told[1:] for told in seen] == [("searching for patches", 1, 4, 90.5), ("reading", 1, 4, None)]


@pytest.mark.parametrize(
    ("contents", "code"), [(("clean", "broken"), 3), (("broken", "dies"), 2), (("clean", "clean"), 0), (("backdoored", "dies"), 1)]
)
def test_codes_1_before_2_before_3(place: Path, contents: tuple[str, ...], code: int) -> None:
    folder = models(place, *contents)
    assert ended(place, "scan", f"{folder}/*.onnx", "--clean-dir", "imgs", "-q")[0] == code


def test_done_ones_stay_and_changed_ones_are_scanned_anew(place: Path) -> None:
    folder = models(place, "clean", "broken", "dies")
    command = ("scan", folder, "--clean-dir", "imgs")
    ended(place, *command)
    assert len(begun(place)) == 3
    (folder / "m000.onnx").write_text("backdoored 0")
    code, out, _ = ended(place, *command)
    assert code == 1
    # what may have been an accident is tried again, what is no classifier is not
    assert sorted(begun(place).values()) == [1, 1, 1, 2]
    assert "m000.onnx: Backdoored" in out
    ended(place, *command, "--seed", 1)
    assert sum(begun(place).values()) == 8


def test_killed_at_20_random_moments(place: Path) -> None:
    """No model is lost, half-written, or scanned again but those that were under way."""
    draw = random.Random(0)
    folder, found = models(place, *["clean"] * 200), place / "banscan-results"
    command = ("scan", folder, "--clean-dir", "imgs", "--jobs", 2)
    kills, at_work = 0, 0
    while kills < 20:
        before = len(results(found)) if found.exists() else 0
        process = start(place, *command, STUB_SECONDS="0.1")
        # half of them at any moment, half when it is at work
        begin, wait = time.monotonic(), draw.uniform(0, 6) if kills % 2 else 60
        while time.monotonic() - begin < wait and process.poll() is None:
            if not kills % 2 and found.exists() and len(list(found.glob("*.json"))) > before + draw.randrange(12):
                break
            time.sleep(0.005)
        assert process.poll() is None, "it ended before it was killed; make it slower"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        whole = results(found) if found.exists() else []
        assert all(result["report"]["verdict"]["outcome"] == "no backdoor found" for result in whole)
        at_work += len(whole) > before
    assert at_work >= 10
    assert len(results(found)) < 200
    code, out, err = ended(place, *command)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "200 models: 200 no backdoor found"
    assert len({result["sha256"] for result in results(found)}) == len(results(found)) == 200
    counts = begun(place)
    assert len(counts) == 200
    assert 200 < sum(counts.values()) <= 200 + 2 * kills
    assert [path.name for path in found.iterdir() if path.suffix != ".json"] == []


def test_a_dry_run_keeps_nothing(place: Path) -> None:
    """Neither a folder of its own nor anything in place of what scans found."""
    command = ("scan", models(place, "clean", "backdoored"), "--clean-dir", "imgs", "-q")
    before = sorted(place.iterdir())
    code, out, err = ended(place, *command, "--dry-run")
    assert (code, out, err) == (1, "2 models: 1 backdoored, 1 no backdoor found\n", "")
    assert sorted(place.iterdir()) == sorted([*before, place / "log"])
    ended(place, *command)
    kept = {path: path.read_bytes() for path in (place / "banscan-results").iterdir()}
    assert len(kept) == 3
    ended(place, *command, "--dry-run", "--seed", 1)
    assert kept == {path: path.read_bytes() for path in (place / "banscan-results").iterdir()}


def test_ctrl_c_keeps_what_is_done(place: Path) -> None:
    folder = models(place, *["clean"] * 50)
    with start(place, "scan", folder, "--clean-dir", "imgs", STUB_SECONDS="0.2") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"\d+ of 50 models are done and kept in banscan-results; the same command goes on from there\nstopped\n", err), err
    # what was at work is no failure
    assert {result["error"] for result in results(place / "banscan-results")} == {None}


@pytest.mark.usefixtures("here")
def test_shards_and_merge(place: Path) -> None:
    folder = models(place, *["clean"] * 6, "backdoored")
    command = ("scan", folder, "--clean-dir", "imgs", "-q", "--results", "r")
    assert ended(place, *command, "--shard", "1/3")[:2] == (1, "3 models: 1 backdoored, 2 no backdoor found\n")
    refused(("merge", "r"), 4, "r: shards 2, 3 of 3 are missing; scan them, then merge again")
    slurm = {"SLURM_ARRAY_TASK_ID": "11", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "3"}
    assert ended(place, *command, "--shard", "auto", **slurm)[0] == 0
    assert ended(place, *command, "--shard", "auto/3", JOB_COMPLETION_INDEX="2")[0] == 0
    code, out, _ = ended(place, "merge", "r", "-o", "all.md")
    assert code == 1
    assert out.splitlines()[-1] == "7 models: 1 backdoored, 6 no backdoor found"
    assert (place / "all.md").read_text().count("\n## ") == 7
    assert sum(begun(place).values()) == 7
    shutil.copytree(place / "r", place / "all" / "one")
    shutil.copytree(place / "r", place / "all" / "two")
    refused(("merge", "all"), 4, "shard 1 of 3 is there 2 times .*; keep one")
    ended(place, *command, "--shard", "1/2")
    refused(("merge", "r"), 4, "shards of 2 and of 3, of different runs")
    next(iter((place / "all" / "one").glob("[0-9a-f]*.json"))).write_text("{")
    shutil.rmtree(place / "all" / "two")
    refused(("merge", "all"), 4, r"the result of .* is missing or damaged; scan that shard again")


def test_the_same_command_on_another_list_is_told_at_the_merge(place: Path) -> None:
    folder = models(place, *["clean"] * 3)
    ended(place, "scan", folder, "--clean-dir", "imgs", "--results", "r", "--shard", "1/2")
    (folder / "new.onnx").write_text("clean new")
    ended(place, "scan", folder, "--clean-dir", "imgs", "--results", "r", "--shard", "2/2")
    told(ended(place, "merge", "r"), 4, "made from different lists of models")


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        (None, {}, Shard(1, 1)),
        ("2/8", {}, Shard(2, 8)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, Shard(1, 4)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}, Shard(4, 4)),
        ("auto/5", {"JOB_COMPLETION_INDEX": "4"}, Shard(5, 5)),
    ],
)
def test_shards_that_are_named(text: str | None, environment: dict[str, str], shard: Shard) -> None:
    assert parse(text, environment) == shard


@pytest.mark.parametrize("text", ["0/4", "5/4", "x", "1", "1/x", "-1/4", "auto", "auto/4", "1/2/3"])
def test_shards_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match=f"--shard {text}: .*expected I/N"):
        parse(text, {"JOB_COMPLETION_INDEX": "4"} if text == "auto" else {"JOB_COMPLETION_INDEX": "7"} if text == "auto/4" else {})


def test_shards_hold_every_model_once() -> None:
    everything = list(range(17))
    parts = [Shard(i, 5).own(everything) for i in range(1, 6)]
    assert sorted(x for part in parts for x in part) == everything


@pytest.mark.usefixtures("here")
def test_a_table_of_models(place: Path) -> None:
    models(place, "clean", "backdoored", "clean", folder="m")
    (place / "other").mkdir()
    (place / "l.csv").write_text("file,label\n")
    (place / "t.csv").write_text("model,images,preprocess,labels\nm/m000.onnx,other,unit,l.csv\nm/m001.onnx,,,\nm/m002.onnx,imgs,raw,\n")
    code, out, err = ended(place, "scan", "--table", "t.csv", "--clean-dir", "imgs", "--results", "r")
    assert (code, err) == (1, "")
    assert "3 models" in out
    asked = {result["asked"]["images"].rpartition("/")[2]: result["asked"]["options"]["preprocess"] for result in results(place / "r")}
    assert asked in ({"other": "unit", "imgs": "raw"}, {"other": "unit", "imgs": "auto"})
    for text, match in (
        ("modle,images\n", r"unknown column 'modle', did you mean model\?"),
        ("images\nimgs\n", "no column model"),
        ("model,images, model\nm/m000.onnx,imgs,m/m001.onnx\n", "t.csv: column model is there 2 times; expected CSV with a heading of"),
        ("model\n", "no model in it"),
        ("model,images\nm/none.onnx,imgs\n", "line 2: .*none.onnx: no such file"),
        ("model,images\nm/m000.onnx,none\n", "line 2: .*none: no such folder"),
        ("model,images\nm/m000.onnx\n", "line 2: fewer cells than the heading"),
        ("model,images\nm/m000.onnx,imgs\nm/../m/m000.onnx,imgs\n", "given twice"),
        ("model\nm/m000.onnx\n", "line 2: no images; fill the column images, or give --clean-dir"),
    ):
        (place / "t.csv").write_text(text)
        refused(("scan", "--table", "t.csv", "--results", "r"), 4, match)


@pytest.mark.usefixtures("here")
def test_a_table_in_yaml(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are taken as they stand; nothing is made of tags, and nothing of a file is run."""
    pytest.importorskip("yaml", reason="a table in YAML needs PyYAML")
    models(place, "clean", "backdoored", "clean", folder="m")
    (place / "other").mkdir()
    (place / "t.yaml").write_text(
        "# ours\n- {model: m/m000.onnx, images: other, preprocess: unit}\n"
        "- model: m/m001.onnx\n  images: ~\n- model: m/m002.onnx\n  preprocess: raw\n"
    )
    code, out, err = ended(place, "scan", "--table", "t.yaml", "--clean-dir", "imgs", "--results", "r")
    assert (code, err) == (1, "")
    assert "3 models" in out
    asked = sorted((r["asked"]["images"].rpartition("/")[2], r["asked"]["options"]["preprocess"]) for r in results(place / "r"))
    assert asked == [("imgs", "auto"), ("imgs", "raw"), ("other", "unit")]
    for text, match in (
        (
            "- modle: x\n",
            r"t\.yaml, line 1: unknown column 'modle', did you mean model\?; expected a list in YAML whose entries have model",
        ),
        ("- images: imgs\n", "line 1: no column model"),
        ("- model: m/m000.onnx\n- model: m/m001.onnx\n  model: m/m002.onnx\n", "line 2: column model is there 2 times"),
        ("", "no model in it; expected a list in YAML"),
        ("model: m/m000.onnx\n", "no list; expected a list in YAML"),
        ("- m/m000.onnx\n", "line 1: expected names with a text each"),
        ("- model: [m/m000.onnx]\n", "line 1: expected names with a text each"),
        ("- ? [a]\n  : b\n", "line 1: expected names with a text each"),
        ("- model: m/none.onnx\n", "line 1: .*none.onnx: no such file"),
        ("- model: m/m000.onnx\n- model: 'x\n", r"line 3: no YAML \(found unexpected end of stream\)"),
        ("- model: !!python/object/apply:os.system [touch ran]\n", "line 1: expected names with a text each"),
        ("[" * 3000, "no YAML"),
        ("- &a [*a]\n", "line 1: expected names with a text each"),
    ):
        (place / "t.yaml").write_text(text)
        refused(("scan", "--table", "t.yaml", "--clean-dir", "imgs", "--results", "r"), 4, match)
    assert not (place / "ran").exists()
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    refused(
        ("scan", "--table", "t.yaml", "--clean-dir", "imgs"),
        4,
        r"t\.yaml: a table in YAML needs a package more: pip install 'banscan\[yaml\]'; or",
    )


@pytest.mark.usefixtures("here")
def test_what_cannot_be_is_told_before_any_scan(place: Path) -> None:
    folder = models(place, "clean", "clean")
    (place / "empty").mkdir()
    (place / "tf").mkdir()
    (place / "tf" / "saved_model.pb").write_text("x")
    (place / "file").write_text("x")
    common = ("--clean-dir", "imgs")
    for arguments, code, match in (
        (("empty", *common), 4, r"empty: no model files in it; expected some that end in \.onnx"),
        (("tf", *common), 3, "SavedModel"),
        ((folder, folder / "m000.onnx", *common), 4, "m000.onnx: given twice; name it once"),
        (("none/*.onnx", *common), 4, r"none/\*\.onnx: matches no file"),
        (("none.onnx", "m.onnx", *common), 4, "none.onnx: no such file"),
        ((folder, "--clean-dir", "none"), 4, "none: no such folder; expected a folder of clean images"),
        ((folder, *common, "--results", "file/x"), 4, "file/x: cannot be written"),
        ((folder, *common, "--results", "file"), 4, "file: is a file; expected a folder for results"),
        ((folder, *common, "-o", "none/r.json"), 4, "none/r.json: cannot be written"),
        ((folder, *common, "-o", "r.pdf"), 4, r"r\.pdf: the end of the name says the format"),
        ((folder, *common, "-o", "r.json", "-o", "r.json"), 4, "r.json: given twice as an output"),
        ((folder, *common, "--shard", "3/2"), 4, "--shard 3/2: expected I/N"),
        ((folder, *common, "--table", "t.csv"), 4, "--table t.csv names the models"),
        ((folder, *common, "--jobs", "0"), 4, "--jobs"),
        ((folder, *common, "--ray", "nowhere"), 4, "--ray nowhere: (needs a package more|expected HOST:PORT)"),
    ):
        refused(("scan", *arguments), code, match)
    refused(("merge", "empty"), 4, "empty: no finished shard in it; expected a folder of results")
    assert not (place / "log").exists()


def test_real_scans_of_tiny_models(model_file: Path, image_dir: Path, place: Path) -> None:
    """Without the stub: one that is none among them, one with its weights beside it, and a second run that scans nothing."""
    folder = place / "models"
    folder.mkdir()
    onnx.save(onnx.load(model_file), folder / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
    (folder / "b.onnx").write_text("no model")
    fast = ("--restarts", "2", "--steps", "2", "--no-pixels")
    code, out, err = ended(place, "scan", folder, "--clean-dir", image_dir, *fast, "--jobs", 2, stub=False)
    assert err == ""
    assert code in (1, 2, 3)
    assert "b.onnx: Failed: not an ONNX model" in out
    first = results(place / "banscan-results")
    (report,) = [result["report"] for result in first if result["report"]]
    assert report["environment"]["threads"] == 1
    assert report["reach"]
    begin = {path: path.stat().st_mtime_ns for path in (place / "banscan-results").glob("[0-9a-f]*.json")}
    again, text, _ = ended(place, "scan", folder, "--clean-dir", image_dir, *fast, "--jobs", 2, stub=False)
    assert (again, sorted(text.splitlines()[-1:])) == (code, sorted(out.splitlines()[-1:]))
    assert begin == {path: path.stat().st_mtime_ns for path in (place / "banscan-results").glob("[0-9a-f]*.json")}
