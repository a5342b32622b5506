"""A few real models in one command that is killed once, as bench.fleet does it with many; and what the pages say of its rows."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import fleet

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "RESULTS", tmp_path / "fleet.jsonl")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = CliRunner().invoke(fleet.main, ["--models", "4", "--kills", "1", "--span", "20"], catch_exceptions=False)
    assert done.exit_code == 0
    row = json.loads((tmp_path / "fleet.jsonl").read_text())
    assert (row["models"], row["results"], sum(row["outcomes"].values())) == (4, 4, 4)
    assert (row["lost"], row["broken"], row["again"], row["left"]) == (0, 0, 0, 0)
    assert row["outcomes"].get("failed", 0) == 0


def test_the_page_says_what_was_measured() -> None:
    row = json.loads((ROOT / "bench" / "results" / "fleet.jsonl").read_text().splitlines()[-1])
    page = " ".join((ROOT / "docs" / "pipelines.md").read_text().split())
    said = re.search(r"Of (\d+) small models, scanned two at once and killed (\d+) times, (\d+) have one result each", page)
    assert said is not None
    assert tuple(map(int, said.groups())) == (row["models"], row["kills"], row["results"])
    assert (row["lost"], row["broken"], row["again"], row["jobs"]) == (0, 0, 0, 2)
