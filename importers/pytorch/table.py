"""A zip archive's table of contents: its entries, by the one record that stands at the end of the file."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from banscan.errors import ModelError

CENTRAL, END, END64, LOCATOR64 = b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"
UTF8 = 0x800
MOST_ENTRIES = 1 << 17
LARGEST = 1 << 26
MAX32 = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """An entry as the table of contents has it: sizes in bytes, `offset` of its header from the start of the file."""

    name: str
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    offset: int


def end_before_comment(file: BinaryIO) -> int | None:
    """Where the end record is, if the file has one whose comment reaches to the end of the file."""
    size = file.seek(0, 2)
    start = max(0, size - 22 - 0xFFFF)
    file.seek(start)
    tail = file.read()
    for place in range(len(tail) - 22, -1, -1):
        if tail[place : place + 4] == END and int.from_bytes(tail[place + 20 : place + 22], "little") == len(tail) - place - 22:
            return start + place
    return None


def read(path: Path, file: BinaryIO, *, strict: bool = True) -> tuple[list[Entry], int]:
    """The entries of the table of contents, and where it starts."""
    end = end_before_comment(file)
    if end is None:
        raise ModelError(f"{path}: not a whole archive (it has no table of contents: it is cut off, or something stands behind it)")
    size = file.seek(0, 2)
    if strict and end != size - 22:
        raise ModelError(f"{path}: a comment stands behind the archive, which PyTorch does not write; refused")
    file.seek(end)
    disk, first_disk, here, count, length, start = struct.unpack("<4xHHHHII2x", file.read(22))
    border = end
    file.seek(max(0, end - 20))
    locator = file.read(20) if end >= 20 else b""
    if locator[:4] == LOCATOR64:
        border, larger = _end64(path, file, locator, end)
        narrow = (disk, first_disk, here, count, length, start)
        if any(n not in (w, m) for n, w, m in zip(narrow, larger, (0xFFFF,) * 4 + (MAX32,) * 2, strict=True)):
            raise damaged(path, "its two end records differ")
        disk, first_disk, here, count, length, start = larger
    if (disk, first_disk) != (0, 0) or here != count:
        raise ModelError(f"{path}: an archive in several parts; give the whole file")
    if length > LARGEST or count > MOST_ENTRIES or start + length > border or (strict and start + length != border):
        raise damaged(path, "its table of contents is not where its end says")
    file.seek(start)
    data = file.read(length)
    return _entries(path, data, count), start


def _end64(path: Path, file: BinaryIO, locator: bytes, end: int) -> tuple[int, tuple[int, ...]]:
    """Where the zip64 end record starts, and its counts."""
    disk, place, disks = struct.unpack("<4xIQI", locator)
    if disk != 0 or disks > 1 or place + 76 != end:
        raise damaged(path, "its zip64 end record is not where it should be")
    file.seek(place)
    data = file.read(56)
    if data[:4] != END64 or struct.unpack_from("<Q", data, 4)[0] != 44:
        raise damaged(path, "its zip64 end record is damaged")
    return place, struct.unpack_from("<IIQQQQ", data, 16)


def _entries(path: Path, data: bytes, count: int) -> list[Entry]:
    found, place = [], 0
    for _ in range(count):
        if data[place : place + 4] != CENTRAL or len(data) < place + 46:
            raise damaged(path, "its table of contents is damaged")
        flags, method, crc, packed, size, n, m, k, disk, offset = struct.unpack_from("<8xHH4xIIIHHHH6xI", data, place)
        raw, extra = data[place + 46 : place + 46 + n], data[place + 46 + n : place + 46 + n + m]
        place += 46 + n + m + k
        if place > len(data):
            raise damaged(path, "its table of contents is cut off")
        own_size, own_packed, own_offset = wide(path, extra, [size, packed, offset])
        if disk != 0:
            raise ModelError(f"{path}: an archive in several parts; give the whole file")
        found.append(Entry(name_of(path, raw, flags), method, flags, crc, own_packed, own_size, own_offset))
    if place != len(data):
        raise damaged(path, "its table of contents is longer than its entries")
    return found


def wide(path: Path, extra: bytes, values: list[int]) -> list[int]:
    """Sizes and offset with those that are too large for 32 bits taken from the zip64 field."""
    fields = _fields(path, extra).get(1, b"")
    for i, value in enumerate(values):
        if value == MAX32:
            if len(fields) < 8:
                raise damaged(path, "a size is missing in its zip64 field")
            values[i], fields = int.from_bytes(fields[:8], "little"), fields[8:]
    return values


def _fields(path: Path, extra: bytes) -> dict[int, bytes]:
    """The extra fields of a header by their numbers."""
    fields: dict[int, bytes] = {}
    place = 0
    while place + 4 <= len(extra):
        number, length = struct.unpack_from("<HH", extra, place)
        if number in fields or place + 4 + length > len(extra):
            raise damaged(path, "an extra field is there twice or is cut off")
        fields[number] = extra[place + 4 : place + 4 + length]
        place += 4 + length
    return fields


def name_of(path: Path, raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & UTF8 else "ascii")
    except UnicodeDecodeError:
        # another tool's, as it may be in archives that are only listed
        name = raw.decode("ascii", "backslashreplace")
    if not name or any(ord(c) < 32 for c in name):
        raise damaged(path, "an entry has a name that is none")
    return name


def damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path}: a damaged archive ({what}); save the model again")
