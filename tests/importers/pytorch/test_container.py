"""Archives on which two readers could disagree, and those that no reader can read: each is refused in one sentence."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from banscan.errors import ModelError
from banscan.importers.pytorch import archive, container
from tests.importers.pytorch.zips import changed, ends, entries, first_central, packed, patched

PLAIN = packed([("model/data.pkl", b"plain" * 50), ("model/code/a.py", b"code"), ("model/version", b"3")])
DEFLATED = packed([("model/data.pkl", b"plain" * 50), ("model/version", b"3")], zipfile.ZIP_DEFLATED)


def two_tables() -> bytes:
    """An archive behind another, whose end says that the table is the first one's."""
    other = packed([("model/data.pkl", b"other")])
    start, end = ends(PLAIN)
    record = PLAIN[end:]
    return PLAIN[:end] + other + PLAIN[start:end] + record


def zip64(change: Callable[[bytearray], None]) -> bytes:
    """With a zip64 end record in front of the end."""
    start, end = ends(PLAIN)
    count = len(entries(PLAIN))
    record = bytearray(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, end - start, start))
    change(record)
    return PLAIN[:end] + bytes(record) + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1) + PLAIN[end:]


def comment() -> bytes:
    """A second end record within the comment of the first."""
    other = PLAIN[ends(PLAIN)[1] :]
    return patched(PLAIN, len(PLAIN) - 2, struct.pack("<H", len(other))) + other


def flag(bit: int) -> bytes:
    data = patched(PLAIN, 6, struct.pack("<H", bit))
    return patched(data, first_central(data) + 8, struct.pack("<H", bit))


def method(number: int) -> bytes:
    data = patched(PLAIN, 8, struct.pack("<H", number))
    return patched(data, first_central(data) + 10, struct.pack("<H", number))


def local(place: int, new: bytes) -> bytes:
    return patched(PLAIN, place, new)


def central(place: int, new: bytes) -> bytes:
    return patched(PLAIN, first_central(PLAIN) + place, new)


def bomb() -> bytes:
    return packed([("model/data.pkl", bytes(50_000_000))], zipfile.ZIP_DEFLATED)


def longer() -> bytes:
    """An entry that unpacks to more than both headers say."""
    size = struct.pack("<I", 200)
    data = patched(DEFLATED, 22, size)
    return patched(data, first_central(data) + 24, size)


def overlapping() -> bytes:
    """Two entries of the table that are the same bytes, as in the best bombs."""
    start, end = ends(PLAIN)
    table = bytearray(PLAIN[start:end])
    second = table.index(b"PK\1\2", 4)
    table[second + 42 : second + 46] = table[42:46]
    return PLAIN[:start] + bytes(table) + PLAIN[end:]


def lzma(data: bytes = PLAIN) -> bytes:
    return packed(entries(data), zipfile.ZIP_LZMA)


REFUSED: dict[str, tuple[bytes, str]] = {
    "two tables": (two_tables(), "stands (behind|before)|not where"),
    "two entries": (changed(PLAIN, lambda n, d: d, {"model/data.pkX": b"other"}).replace(b"data.pkX", b"data.pkl"), "twice"),
    "another case": (changed(PLAIN, lambda n, d: d, {"model/DATA.pkl": b"other"}), "twice"),
    "detour": (changed(PLAIN, lambda n, d: d, {"model/./data.pkl": b"other"}), "detours"),
    "double slash": (changed(PLAIN, lambda n, d: d, {"model//data.pkl": b"other"}), "detours"),
    "outside": (changed(PLAIN, lambda n, d: d, {"../../evil": b"x"}), "outside itself"),
    "backslash": (patched(PLAIN, PLAIN.index(b"model/version") + 5, b"\\"), "described in two ways"),
    "two folders": (changed(PLAIN, lambda n, d: d, {"other/data.pkl": b"other"}), "not all in one folder"),
    "prefix": (b"#!/bin/sh\n" + PLAIN, "not where|before the archive"),
    "suffix": (PLAIN + b"more", "no table of contents"),
    "comment": (comment(), "a comment stands behind|not where its end says"),
    "zip64 differs": (zip64(lambda r: r.__setitem__(slice(32, 40), struct.pack("<Q", 1))), "several parts|end records differ"),
    "zip64 elsewhere": (zip64(lambda r: r.__setitem__(slice(48, 56), bytes(8))), "end records differ"),
    "other name": (local(30, b"model/Data.pkl"), "described in two ways"),
    "other size": (local(22, struct.pack("<I", 7)), "two sizes|described in two ways"),
    "other method": (local(8, struct.pack("<H", 8)), "described in two ways"),
    "checksum": (patched(PLAIN, PLAIN.index(b"plainplain"), b"Plain"), "other bytes than its checksum"),
    "encrypted": (flag(1), "encrypted"),
    "strongly encrypted": (flag(0x41), "encrypted"),
    "deflate64": (method(9), "number 9"),
    "unknown method": (method(99), "number 99"),
    "lzma": (lzma(), "number 14"),
    "bzip2": (packed(entries(PLAIN), zipfile.ZIP_BZIP2), "number 12"),
    "several disks": (patched(PLAIN, ends(PLAIN)[1] + 4, struct.pack("<HH", 1, 1)), "several parts"),
    "entry of another disk": (central(34, struct.pack("<H", 3)), "several parts"),
    "damaged deflate": (patched(DEFLATED, 30 + len("model/data.pkl"), b"\xff\xff\xff"), "compressed bytes are damaged"),
    "longer than it says": (longer(), "more bytes than|other bytes"),
    "bomb": (bomb(), "unpacks to more"),
    "overlapping": (overlapping(), "described in two ways|behind"),
    "offset": (central(42, struct.pack("<I", 1 << 30)), "stands before|not where|damaged"),
    "count": (patched(PLAIN, ends(PLAIN)[1] + 8, struct.pack("<HH", 9, 9)), "damaged|cut off"),
    "table elsewhere": (patched(PLAIN, ends(PLAIN)[1] + 16, struct.pack("<I", 1 << 31)), "not where"),
    "name with a null": (local(30 + 5, b"\0"), "a name that is none"),
    "cut off": (PLAIN[: len(PLAIN) // 2], "no table of contents"),
}


def read(path: Path) -> None:
    with container.Container(path) as opened:
        for name in opened.entries:
            opened.read(name)


def sentence(look: Callable[[Path], object], path: Path) -> str:
    """What is said of a file; nothing where it is read."""
    try:
        look(path)
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=said) as told:
        read(path)
    assert str(told.value).count("\n") == 0
    assert "\n" not in sentence(archive.kind, path)


@pytest.mark.parametrize("data", [PLAIN, DEFLATED, zip64(lambda r: None)], ids=["stored", "deflated", "zip64"])
def test_read(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    with container.Container(path) as opened:
        assert opened.root == "model"
        assert opened.read("data.pkl") == b"plain" * 50
        assert opened.size("version") == 1
        with pytest.raises(ModelError, match="more than 3 bytes"):
            opened.read("data.pkl", 3)
        with pytest.raises(ModelError, match="holds no other"):
            opened.read("other")


def test_streamed_entries_are_read(tmp_path: Path) -> None:
    """Sizes behind the bytes, as PyTorch and tools that write to a pipe have it."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as written:  # type: ignore[call-overload]
        written.writestr("model/data.pkl", b"plain" * 50)
    path = tmp_path / "model.pt"
    path.write_bytes(pipe.data)
    read(path)


def test_whatever_byte_changes_nothing_but_one_sentence(tmp_path: Path) -> None:
    """Every byte of the headers, and every place where the file may end."""
    path = tmp_path / "model.pt"
    for place in range(len(PLAIN)):
        for data in (patched(PLAIN, place, bytes([PLAIN[place] ^ 0xFF])), PLAIN[:place]):
            path.write_bytes(data)
            for look in (read, archive.kind):
                assert "\n" not in sentence(look, path)
