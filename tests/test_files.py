"""Files under their names only when they are whole, and nothing left behind when they are not."""

import os
from pathlib import Path

import pytest

from banscan import BanscanError, UsageError, files
from banscan.files import whole


def test_what_is_written_beside_the_place_comes_along(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with whole(path) as place:
        place.write_text("new")
        place.with_name("model.onnx.data").write_text("weights")
        assert path.read_text() == "old"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"model.onnx": "new", "model.onnx.data": "weights"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left"), BanscanError),
        (PermissionError(13, "Permission denied"), UsageError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException, told: type[BaseException]) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def half() -> None:
        with whole(path) as place:
            place.write_text("half")
            raise error

    with pytest.raises(told) as raised:
        half()
    assert type(raised.value) is told
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"report.json": "old"}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.json: cannot be written"), whole(tmp_path / "none" / "x.json"):
        pytest.fail("nothing can be written")


def test_a_link_stays(tmp_path: Path) -> None:
    """What it leads to is written, there already or not yet."""
    link, target = tmp_path / "link.json", tmp_path / "there" / "report.json"
    target.parent.mkdir()
    link.symlink_to(target)
    for text in ("first", "second"):
        with whole(link) as place:
            place.write_text(text)
        assert (link.is_symlink(), target.read_text(), len(list(tmp_path.rglob("*")))) == (True, text, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with whole(pipe) as place:
        place.write_text("whole")
    assert (os.read(reader, 10), files.special(pipe), list(tmp_path.iterdir())) == (b"whole", True, [pipe])
    os.close(reader)
    with pytest.raises(BanscanError, match="full: cannot be written"), whole(Path("/dev/full")) as place:
        place.write_text("x")
    assert files.special(Path("/dev/full"))


def test_long_and_odd_names(tmp_path: Path) -> None:
    for name in ("n" * 255, "\u6b62" * 85, os.fsdecode(b"\xff\n\x1b[2J")):
        files.check(tmp_path / name)
        with whole(tmp_path / name) as place:
            place.write_text(name[0] if name[0] == "n" else "x")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["none/x", "file/x", "folder", "n" * 256])
def test_places_are_tried_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"cannot be written .*; expected a file in a folder that exists and may be written to"):
        files.check(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 2
