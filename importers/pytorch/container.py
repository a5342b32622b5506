"""A zip archive as PyTorch writes it, read by rules so strict that no two readers can see different entries in it.

The file is its entries one after the other, then the table of contents, then its end: nothing before, between or behind. What an entry is
called and how long it is stands twice, and must be the same both times. Other zip archives are listed, not read.
"""

import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from banscan.errors import ModelError

LOCAL, CENTRAL, END, END64, LOCATOR64, DESCRIPTOR = b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08"
STORED, DEFLATED = 0, 8
# encryption (also of the table), patched data
FORBIDDEN_FLAGS = 0x1 | 0x20 | 0x40 | 0x2000
DESCRIBED, UTF8 = 0x8, 0x800
MOST_ENTRIES = 1 << 17
TABLE = 1 << 26
# stored tensors hardly compress; more than this is a zip bomb
RATIO = 200
UNPACKED, TIMES = 64 << 20, 8
CHUNK = 1 << 20
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


class Container:
    """An open archive, strictly checked; `entries` by name without the folder that all are in, which is `root`.

    Raises:
        ModelError: whatever is wrong with it, from opening or from reading an entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            found, table = _table(path, self._file)
            self.root, self.entries = _named(path, found)
            _check_sizes(path, found, table)
            self._starts = _check_layout(path, self._file, found, table)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def size(self, name: str) -> int:
        """Bytes of an entry, unpacked."""
        return self._entry(name).size

    def read(self, name: str, most: int | None = None) -> bytes:
        """The bytes of an entry; ModelError where it has more than `most`."""
        if most is not None and self.size(name) > most:
            raise ModelError(f"{self.path}: {name} has more than {most:,} bytes; the file is damaged or hostile")
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of an entry in parts."""
        entry = self._entry(name)
        self._file.seek(self._starts[entry.offset])
        left, crc, unpacked = entry.packed, 0, 0
        inflate = zlib.decompressobj(-15) if entry.method == DEFLATED else None
        while left:
            data = self._file.read(min(CHUNK, left))
            if not data:
                raise _damaged(self.path, f"{name} is cut off")
            left -= len(data)
            while data:
                try:
                    part = data if inflate is None else inflate.decompress(data, CHUNK)
                except zlib.error as error:
                    raise _damaged(self.path, f"{name}: its compressed bytes are damaged") from error
                data = b"" if inflate is None else inflate.unconsumed_tail
                crc, unpacked = zlib.crc32(part, crc), unpacked + len(part)
                if unpacked > entry.size:
                    raise _damaged(self.path, f"{name} has more bytes than the table of contents says")
                yield part
        whole = inflate is None or (inflate.eof and not inflate.unused_data)
        if not whole or unpacked != entry.size or crc != entry.crc:
            raise _damaged(self.path, f"{name} has other bytes than its checksum and size say")

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise _damaged(self.path, f"it holds no {name}")
        return self.entries[name]


def names(path: Path) -> list[str] | None:
    """The names that a zip archive's table of contents lists; None for a file that is no zip archive.

    Raises:
        ModelError: the table of contents is damaged.
    """
    with path.open("rb") as file:
        begins = file.read(4)
        if begins not in (LOCAL, END) and _end_before_comment(file) is None:
            return None
        return [entry.name for entry in _table(path, file, strict=False)[0]]


def _end_before_comment(file: BinaryIO) -> int | None:
    """Where the end record is, if the file has one whose comment reaches to the end of the file."""
    size = file.seek(0, 2)
    start = max(0, size - 22 - 0xFFFF)
    file.seek(start)
    tail = file.read()
    for place in range(len(tail) - 22, -1, -1):
        if tail[place : place + 4] == END and int.from_bytes(tail[place + 20 : place + 22], "little") == len(tail) - place - 22:
            return start + place
    return None


def _table(path: Path, file: BinaryIO, *, strict: bool = True) -> tuple[list[Entry], int]:
    """The entries of the table of contents, and where it starts."""
    end = _end_before_comment(file)
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
        border, wide = _end64(path, file, locator, end)
        narrow = (disk, first_disk, here, count, length, start)
        if any(n not in (w, m) for n, w, m in zip(narrow, wide, (0xFFFF,) * 4 + (MAX32,) * 2, strict=True)):
            raise _damaged(path, "its two end records differ")
        disk, first_disk, here, count, length, start = wide
    if (disk, first_disk) != (0, 0) or here != count:
        raise ModelError(f"{path}: an archive in several parts; give the whole file")
    if length > TABLE or count > MOST_ENTRIES or start + length > border or (strict and start + length != border):
        raise _damaged(path, "its table of contents is not where its end says")
    file.seek(start)
    data = file.read(length)
    return _entries(path, data, count), start


def _end64(path: Path, file: BinaryIO, locator: bytes, end: int) -> tuple[int, tuple[int, ...]]:
    """Where the zip64 end record starts, and its counts."""
    disk, place, disks = struct.unpack("<4xIQI", locator)
    if disk != 0 or disks > 1 or place + 76 != end:
        raise _damaged(path, "its zip64 end record is not where it should be")
    file.seek(place)
    data = file.read(56)
    if data[:4] != END64 or struct.unpack_from("<Q", data, 4)[0] != 44:
        raise _damaged(path, "its zip64 end record is damaged")
    return place, struct.unpack_from("<IIQQQQ", data, 16)


def _entries(path: Path, data: bytes, count: int) -> list[Entry]:
    found, place = [], 0
    for _ in range(count):
        if data[place : place + 4] != CENTRAL or len(data) < place + 46:
            raise _damaged(path, "its table of contents is damaged")
        flags, method, crc, packed, size, n, m, k, disk, offset = struct.unpack_from("<8xHH4xIIIHHHH6xI", data, place)
        raw, extra = data[place + 46 : place + 46 + n], data[place + 46 + n : place + 46 + n + m]
        place += 46 + n + m + k
        if place > len(data):
            raise _damaged(path, "its table of contents is cut off")
        wide = _wide(path, extra, [size, packed, offset])
        if disk != 0:
            raise ModelError(f"{path}: an archive in several parts; give the whole file")
        found.append(Entry(_name(path, raw, flags), method, flags, crc, wide[1], wide[0], wide[2]))
    if place != len(data):
        raise _damaged(path, "its table of contents is longer than its entries")
    return found


def _wide(path: Path, extra: bytes, values: list[int]) -> list[int]:
    """Sizes and offset with those that are too large for 32 bits taken from the zip64 field."""
    fields = _fields(path, extra).get(1, b"")
    for i, value in enumerate(values):
        if value == MAX32:
            if len(fields) < 8:
                raise _damaged(path, "a size is missing in its zip64 field")
            values[i], fields = int.from_bytes(fields[:8], "little"), fields[8:]
    return values


def _fields(path: Path, extra: bytes) -> dict[int, bytes]:
    """The extra fields of a header by their numbers."""
    fields: dict[int, bytes] = {}
    place = 0
    while place + 4 <= len(extra):
        number, length = struct.unpack_from("<HH", extra, place)
        if number in fields or place + 4 + length > len(extra):
            raise _damaged(path, "an extra field is there twice or is cut off")
        fields[number] = extra[place + 4 : place + 4 + length]
        place += 4 + length
    return fields


def _name(path: Path, raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & UTF8 else "ascii")
    except UnicodeDecodeError:
        # another tool's, as it may be in archives that are only listed
        name = raw.decode("ascii", "backslashreplace")
    if not name or any(ord(c) < 32 for c in name):
        raise _damaged(path, "an entry has a name that is none")
    return name


def _named(path: Path, found: list[Entry]) -> tuple[str, dict[str, Entry]]:
    """The folder that all entries are in, and the entries by their names in it."""
    entries: dict[str, Entry] = {}
    roots, folded = set(), set()
    for entry in found:
        parts = entry.name.removesuffix("/").split("/")
        if "\\" in entry.name or any(part in ("", ".", "..") for part in parts):
            raise ModelError(f"{path}: the archive names files outside itself or by detours ({entry.name!r}); refused")
        if entry.name.lower() in folded:
            raise ModelError(f"{path}: the archive holds {entry.name!r} twice; which one is loaded depends on the reader; refused")
        folded.add(entry.name.lower())
        if entry.name.endswith("/"):
            if entry.size or entry.packed:
                raise _damaged(path, f"the folder {entry.name!r} has bytes")
            continue
        roots.add(parts[0] if len(parts) > 1 else "")
        entries["/".join(parts[1:])] = entry
    if len(roots) != 1 or "" in roots:
        raise ModelError(f"{path}: its entries are not all in one folder, as PyTorch writes them; save the model again")
    return roots.pop(), entries


def _check_sizes(path: Path, found: list[Entry], table: int) -> None:
    for entry in found:
        if entry.flags & FORBIDDEN_FLAGS:
            raise ModelError(f"{path}: {entry.name!r} is encrypted; expected a plain archive as PyTorch writes it")
        if entry.method not in (STORED, DEFLATED):
            raise ModelError(
                f"{path}: {entry.name!r} is compressed in a way (number {entry.method}) that PyTorch does not read; save the model again"
            )
        if entry.method == STORED and entry.packed != entry.size:
            raise _damaged(path, f"{entry.name!r} has two sizes")
    packed = [entry for entry in found if entry.method == DEFLATED]
    if any(e.size > RATIO * max(1, e.packed) for e in packed) or sum(e.size for e in packed) > UNPACKED + TIMES * table:
        raise ModelError(f"{path}: the archive unpacks to more than it can hold; the file is damaged or hostile")


def _check_layout(path: Path, file: BinaryIO, found: list[Entry], table: int) -> dict[int, int]:
    """Where the bytes of each entry start, by its offset; every byte of the file belongs to one entry."""
    starts: dict[int, int] = {}
    ordered = sorted(found, key=lambda e: e.offset)
    if (ordered[0].offset if ordered else table) != 0:
        raise ModelError(f"{path}: something stands before the archive; refused")
    ends = [entry.offset for entry in ordered[1:]] + [table]
    for entry, end in zip(ordered, ends, strict=True):
        file.seek(entry.offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != LOCAL:
            raise _damaged(path, f"{entry.name!r} is not where the table of contents says")
        flags, method, crc, packed, size, n, m = struct.unpack("<6xHH4xIIIHH", header)
        name, extra = file.read(n), file.read(m)
        same = _name(path, name, flags) == entry.name and method == entry.method and flags == entry.flags
        start = entry.offset + 30 + n + m
        if not same or not _agrees(path, entry, extra, crc, packed, size) or start + entry.packed > end:
            raise _damaged(path, f"{entry.name!r} is described in two ways")
        file.seek(start + entry.packed)
        gap = end - start - entry.packed
        if gap > 24 or not _describes(entry, file.read(gap)):
            raise _damaged(path, f"something stands behind {entry.name!r}")
        starts[entry.offset] = start
    return starts


def _agrees(path: Path, entry: Entry, extra: bytes, crc: int, packed: int, size: int) -> bool:
    """Does an entry's own header say what the table says? With a descriptor behind the bytes it may leave it open."""
    if entry.flags & DESCRIBED and (crc, packed, size) in ((0, 0, 0), (0, MAX32, MAX32)):
        return True
    own_size, own_packed = _wide(path, extra, [size, packed])
    return (crc, own_packed, own_size) == (entry.crc, entry.packed, entry.size)


def _describes(entry: Entry, data: bytes) -> bool:
    """Is what stands behind an entry's bytes nothing, or the descriptor that its flags announce?"""
    if not entry.flags & DESCRIBED:
        return not data
    sizes = [struct.pack(kind, entry.crc, entry.packed, entry.size) for kind in ("<IQQ", "<III") if kind == "<IQQ" or entry.size < MAX32]
    return data in [mark + rest for mark, rest in itertools.product((DESCRIPTOR, b""), sizes)]


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path}: a damaged archive ({what}); save the model again")
