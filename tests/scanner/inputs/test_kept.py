"""No output takes the place of what is read, by whatever name it is given."""

import os
import shutil
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from banscan.errors import UsageError
from banscan.scanner.inputs import kept


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model with weights outside, two tables, and a folder of images with a link to another and one back to itself."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights/model.data")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    save(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [tensor])), tmp_path / "model.onnx")
    for name in ("weights/model.data", "labels.csv", "classes.txt", "images/0/a.png", "elsewhere/b.png", "other.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"kept")
    (tmp_path / "images" / "1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "0" / "back").symlink_to(tmp_path / "images")
    return tmp_path


def check(place: Path, output: Path, *, beside: bool = False) -> None:
    files = (place / "model.onnx", place / "labels.csv", None, place / "classes.txt")
    kept.check(output, files, (place / "images",), beside=beside)


@pytest.mark.parametrize("name", ["model.onnx", "labels.csv", "classes.txt", "weights/model.data", "images/0/a.png", "elsewhere/b.png"])
@pytest.mark.parametrize("how", ["path", "spelling", "relative", "link", "hard link"])
def test_inputs_are_refused(place: Path, name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, output = place / name, place / "report.json"
    monkeypatch.chdir(place)
    if how == "link":
        output.symlink_to(target)
    elif how == "hard link":
        os.link(target, output)
    else:
        output = {"path": target, "spelling": place / "images" / ".." / name, "relative": Path(name)}[how]
    with pytest.raises(UsageError, match=r"would be overwritten, but .*; give the output another name"):
        check(place, output)


@pytest.mark.parametrize("name", ["other.json", "new.json", "images/new.json"])
def test_other_files_are_not(place: Path, name: str) -> None:
    check(place, place / name, beside=True)


def test_what_is_written_beside_the_output_counts_where_something_is(place: Path) -> None:
    for suffix in (".partial", ".data", ".1.data"):
        shutil.move(place / "labels.csv", place / f"fixed.onnx{suffix}")
        (place / "labels.csv").symlink_to(f"fixed.onnx{suffix}")
        check(place, place / "fixed.onnx")
        with pytest.raises(UsageError, match=f"fixed.onnx{suffix}: would be overwritten"):
            check(place, place / "fixed.onnx", beside=True)
        (place / "labels.csv").unlink()
        shutil.move(place / f"fixed.onnx{suffix}", place / "labels.csv")


def test_long_names_of_weights(place: Path) -> None:
    """A length of more than one byte."""
    model = place / "model.onnx"
    name = "d/" * 60 + "w" * 150
    (place / name).parent.mkdir(parents=True)
    (place / name).write_bytes(b"kept")
    data = model.read_bytes().replace(b"\x12\x12weights/model.data", bytes([0x12, len(name) & 0x7F | 0x80, len(name) >> 7]) + name.encode())
    model.write_bytes(data)
    with pytest.raises(UsageError, match="keeps weights in it"):
        check(place, place / name)
