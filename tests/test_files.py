"""Files under their names only when they are whole, and nothing left behind when they are not."""

from pathlib import Path

import pytest

from banscan import UsageError
from banscan.files import whole


def test_what_is_written_beside_the_place_comes_along(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with whole(path) as place:
        place.write_text("new")
        place.with_name("model.onnx.data").write_text("weights")
        assert path.read_text() == "old"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"model.onnx": "new", "model.onnx.data": "weights"}


@pytest.mark.parametrize(("error", "told"), [(OSError(28, "No space left"), UsageError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException, told: type[BaseException]) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def half() -> None:
        with whole(path) as place:
            place.write_text("half")
            raise error

    with pytest.raises(told):
        half()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"report.json": "old"}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.json: cannot be written"), whole(tmp_path / "none" / "x.json"):
        pytest.fail("nothing can be written")
