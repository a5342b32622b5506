"""Files that are none of the formats: told by their content, refused in one sentence."""

import struct
import zipfile
from pathlib import Path

import pytest

from banscan import ModelError, UsageError, importers


def refused(path: Path, match: str, kind: type[Exception] = ModelError, logits: str | None = None) -> None:
    with pytest.raises(kind, match=match) as caught:
        importers.load(path, logits=logits)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "no such file", UsageError)
    refused(tmp_path, "not a file", UsageError)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 1000, b"PK\x03\x04" + b"x" * 100])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    refused(path, "not a")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "Keras .*format='onnx'"),
        (b"\x1c\0\0\0TFL3" + bytes(500), "tf2onnx.convert --tflite"),
        ((20).to_bytes(8, "little") + b'{"w": {"dtype": 1}} ' + bytes(4), "without the graph .safetensors"),
        ({"config.json": "{}", "model.weights.h5": ""}, "Keras archive.*format='onnx'"),
        ({"model.onnx": "", "labels.txt": ""}, "unpack it"),
    ],
)
def test_other_makers_files(tmp_path: Path, content: bytes | dict[str, str], said: str) -> None:
    """What is not read is named, with the way to a file that is."""
    path = tmp_path / "model.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    refused(path, said)


def test_an_archive_without_a_table_of_contents(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"junk" * 50 + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 3, 3, 120, 80, 0))
    refused(path, "damaged archive")


def test_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    refused(tmp_path, "tf2onnx.convert --saved-model")
