"""Shards that somebody else wrote: nothing in them leads outside their folder, and what is no shard is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from banscan.errors import UsageError
from banscan.scanner.cli import outputs
from banscan.scanner.fleet import shard

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


def test_one_file_under_two_names_is_one_output(tmp_path: Path) -> None:
    (tmp_path / "q.json").touch()
    (tmp_path / "q.html").symlink_to("q.json")
    with pytest.raises(UsageError, match="given twice as an output"):
        outputs.check("terminal", (tmp_path / "q.json", tmp_path / "q.html"), (), ())
