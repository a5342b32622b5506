"""Shards that somebody else wrote: nothing in them leads outside their folder, and what is no shard is told."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from banscan.errors import BanscanError, UsageError
from banscan.importers.digest import identity
from banscan.scanner.cli import outputs
from banscan.scanner.findings import Failure
from banscan.scanner.fleet import models, shard, stored, worker
from banscan.scanner.fleet.job import Job
from banscan.scanner.machine.progress import silent
from banscan.scanner.request import Request

ROW = {"model": "a.onnx", "sha256": "0" * 64, "error": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"done": [ROW | {"sha256": "../outside"}]},
        {"done": [ROW | {"sha256": None}]},
        {"done": [ROW | {"model": 5}]},
        {"done": [ROW | {"error": ["no"]}]},
        {"done": {}},
        {"of": 300_000_000},
        {"shard": 1.5, "of": 1.5},
        {"shard": True},
    ],
)
def test_what_is_no_shard_is_told(changes: dict[str, Any], tmp_path: Path) -> None:
    document = {"schema": shard.SCHEMA, "shard": 1, "of": 1, "models": 1, "list": "l", "done": [ROW]} | changes
    (tmp_path / "shard-1-of-1.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="damaged, or no shard"):
        shard.merge(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"exit_code": 1e999, "error": "e", "report": null}',
        '{"exit_code": 1, "error": "e", "report": null}',
        '{"exit_code": true, "error": "e", "report": null}',
        '{"exit_code": 3, "error": 5, "report": null}',
        '{"report": {"schema": "banscan/2"}}',
        '{"report": 1e999}',
        "[]",
    ],
)
def test_a_damaged_result_is_told(text: str, tmp_path: Path) -> None:
    """And counts as none, so that the model is scanned again."""
    known = {"schema": stored.SCHEMA, "sha256": ROW["sha256"], "asked": {}}
    document = json.loads(text)
    file = tmp_path / f"{ROW['sha256']}.json"
    file.write_text(json.dumps(known | document if isinstance(document, dict) else document))
    shard_ = {"schema": shard.SCHEMA, "shard": 1, "of": 1, "models": 1, "list": "l", "done": [ROW]}
    (tmp_path / "shard-1-of-1.json").write_text(json.dumps(shard_))
    with pytest.raises(UsageError, match=rf"{file.name}: the result of a\.onnx is missing or damaged; scan that shard again"):
        shard.merge(tmp_path)
    assert stored.found(file, Path("a.onnx"), str(ROW["sha256"]), {}, lasting=True) is None


def test_a_failure_that_was_stored_comes_back(tmp_path: Path) -> None:
    file, failure = tmp_path / "x.json", Failure(Path("a.onnx"), "0" * 64, "a.onnx: not an ONNX model", 3)
    stored.write(file, failure, "0" * 64, {})
    assert stored.found(file, Path("a.onnx"), "0" * 64, {}, lasting=True) == stored.Stored(failure, file)


@pytest.mark.parametrize("stopped", [True, False])
def test_what_fails_since_it_is_stopped_is_no_result(stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that reads files is gone before the one that scans is."""

    def run(*_: object) -> None:
        if stopped:
            ended.set()
        raise BanscanError("the process that reads models ended")

    ended = threading.Event()
    monkeypatch.setattr(worker, "_ended", ended)
    monkeypatch.setattr(Request, "run", run)
    job = Job(tmp_path / "a.onnx", tmp_path, Request())
    worker.done(job.order(tmp_path / "r.json", "0" * 64, job.asked()), silent)
    assert (tmp_path / "r.json").exists() != stopped


def test_one_file_under_two_names_is_one_output(tmp_path: Path) -> None:
    (tmp_path / "q.json").touch()
    (tmp_path / "q.html").symlink_to("q.json")
    with pytest.raises(UsageError, match="given twice as an output"):
        outputs.check("terminal", (tmp_path / "q.json", tmp_path / "q.html"), (), ())


def test_pipes_in_place_of_results_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "shard-1-of-1.json")
    with pytest.raises(UsageError, match="damaged, or no shard"):
        shard.merge(tmp_path)
    file = stored.place(tmp_path, "0" * 64)
    os.mkfifo(file)
    assert stored.found(file, Path("a.onnx"), "0" * 64) is None


def test_a_model_that_is_no_file_fails_by_itself(tmp_path: Path) -> None:
    """Nothing waits for a pipe or reads a device without end; the models behind it are scanned."""
    os.mkfifo(tmp_path / "a.onnx")
    (tmp_path / "b.onnx").symlink_to("/dev/zero")
    for model in models.listed([tmp_path]).models:
        with pytest.raises(OSError, match="it is no file"):
            identity(model)


def test_folders_that_links_lead_to_are_models_folders_too(tmp_path: Path) -> None:
    """Each once, links in circles and back to what was read already included."""
    inside, outside = tmp_path / "models", tmp_path / "outside"
    for folder in (inside / "own", outside):
        folder.mkdir(parents=True)
        (folder / "m.onnx").write_bytes(b"")
    (inside / "linked").symlink_to(outside)
    (inside / "again").symlink_to(inside / "own")
    (outside / "circle").symlink_to(inside)
    assert {path.resolve() for path in models.listed([inside]).models} == {outside / "m.onnx", inside / "own" / "m.onnx"}


def test_folders_that_may_not_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def closed(place: str) -> Any:
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(models.os, "scandir", closed)
    listed = models.listed([tmp_path])
    assert listed.models == (tmp_path / "m.onnx",)
    assert listed.notes == (f"{tmp_path / 'closed'}: left out, it may not be read; give banscan the right to it",)
