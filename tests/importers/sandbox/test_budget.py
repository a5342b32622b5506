"""What opening a file may cost: by its size, and by what lies beside it."""

from pathlib import Path

import pytest

from banscan.importers.sandbox.budget import reading


def test_files_beside_a_model_give_it_more(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"1" * 100)
    (tmp_path / "m.data").write_bytes(b"1" * 900)
    assert reading(tmp_path / "m.onnx").more == 1000


def test_a_folder_that_may_be_entered_and_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its models can be read; weights beside them are not known of."""
    (tmp_path / "m.onnx").write_bytes(b"1" * 100)
    known = reading(tmp_path / "m.onnx")

    def closed(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", closed)
    found = reading(tmp_path / "m.onnx")
    assert (found.more, found.memory, found.seconds) == (0, known.memory, known.seconds)
