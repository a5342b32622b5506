"""A zip archive as PyTorch writes it, read by rules so strict that no two readers can see different entries in it.

The file is its entries one after the other, then the table of contents, then its end: nothing before, between or behind. What an entry is
called and how long it is stands twice, and must be the same both times. Other zip archives are listed, not read.
"""

import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from banscan.errors import ModelError
from banscan.importers.pytorch import table
from banscan.importers.pytorch.table import END, MAX32, Entry

LOCAL, DESCRIPTOR = b"PK\3\4", b"PK\7\x08"
STORED, DEFLATED = 0, 8
# encryption (also of the table), patched data
FORBIDDEN_FLAGS = 0x1 | 0x20 | 0x40 | 0x2000
DESCRIBED = 0x8
# stored tensors hardly compress; more than this is a zip bomb
RATIO = 200
UNPACKED, TIMES = 64 << 20, 8
CHUNK = 1 << 20


class Container:
    """An open archive, strictly checked; `entries` by name without the folder that all are in, which is `root`.

    Raises:
        ModelError: whatever is wrong with it, from opening or from reading an entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            found, border = table.read(path, self._file)
            self.root, self.entries = _named(path, found)
            _check_sizes(path, found, border)
            self._starts = _check_layout(path, self._file, found, border)
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
                raise table.damaged(self.path, f"{name} is cut off")
            left -= len(data)
            while data:
                try:
                    part = data if inflate is None else inflate.decompress(data, CHUNK)
                except zlib.error as error:
                    raise table.damaged(self.path, f"{name}: its compressed bytes are damaged") from error
                data = b"" if inflate is None else inflate.unconsumed_tail
                crc, unpacked = zlib.crc32(part, crc), unpacked + len(part)
                if unpacked > entry.size:
                    raise table.damaged(self.path, f"{name} has more bytes than the table of contents says")
                yield part
        whole = inflate is None or (inflate.eof and not inflate.unused_data)
        if not whole or unpacked != entry.size or crc != entry.crc:
            raise table.damaged(self.path, f"{name} has other bytes than its checksum and size say")

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise table.damaged(self.path, f"it holds no {name}")
        return self.entries[name]


def names(path: Path) -> list[str] | None:
    """The names that a zip archive's table of contents lists; None for a file that is no zip archive.

    Raises:
        ModelError: the table of contents is damaged.
    """
    with path.open("rb") as file:
        begins = file.read(4)
        if begins not in (LOCAL, END) and table.end_before_comment(file) is None:
            return None
        return [entry.name for entry in table.read(path, file, strict=False)[0]]


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
                raise table.damaged(path, f"the folder {entry.name!r} has bytes")
            continue
        roots.add(parts[0] if len(parts) > 1 else "")
        entries["/".join(parts[1:])] = entry
    if len(roots) != 1 or "" in roots:
        raise ModelError(f"{path}: its entries are not all in one folder, as PyTorch writes them; save the model again")
    return roots.pop(), entries


def _check_sizes(path: Path, found: list[Entry], border: int) -> None:
    for entry in found:
        if entry.flags & FORBIDDEN_FLAGS:
            raise ModelError(f"{path}: {entry.name!r} is encrypted; expected a plain archive as PyTorch writes it")
        if entry.method not in (STORED, DEFLATED):
            raise ModelError(
                f"{path}: {entry.name!r} is compressed in a way (number {entry.method}) that PyTorch does not read; save the model again"
            )
        if entry.method == STORED and entry.packed != entry.size:
            raise table.damaged(path, f"{entry.name!r} has two sizes")
    packed = [entry for entry in found if entry.method == DEFLATED]
    if any(e.size > RATIO * max(1, e.packed) for e in packed) or sum(e.size for e in packed) > UNPACKED + TIMES * border:
        raise ModelError(f"{path}: the archive unpacks to more than it can hold; the file is damaged or hostile")


def _check_layout(path: Path, file: BinaryIO, found: list[Entry], border: int) -> dict[int, int]:
    """Where the bytes of each entry start, by its offset; every byte of the file belongs to one entry."""
    starts: dict[int, int] = {}
    ordered = sorted(found, key=lambda e: e.offset)
    if (ordered[0].offset if ordered else border) != 0:
        raise ModelError(f"{path}: something stands before the archive; refused")
    ends = [entry.offset for entry in ordered[1:]] + [border]
    for entry, end in zip(ordered, ends, strict=True):
        file.seek(entry.offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != LOCAL:
            raise table.damaged(path, f"{entry.name!r} is not where the table of contents says")
        flags, method, crc, packed, size, n, m = struct.unpack("<6xHH4xIIIHH", header)
        name, extra = file.read(n), file.read(m)
        same = table.name_of(path, name, flags) == entry.name and method == entry.method and flags == entry.flags
        start = entry.offset + 30 + n + m
        if not same or not _agrees(path, entry, extra, crc, packed, size) or start + entry.packed > end:
            raise table.damaged(path, f"{entry.name!r} is described in two ways")
        file.seek(start + entry.packed)
        gap = end - start - entry.packed
        if gap > 24 or not _describes(entry, file.read(gap)):
            raise table.damaged(path, f"something stands behind {entry.name!r}")
        starts[entry.offset] = start
    return starts


def _agrees(path: Path, entry: Entry, extra: bytes, crc: int, packed: int, size: int) -> bool:
    """Does an entry's own header say what the table says? With a descriptor behind the bytes it may leave it open."""
    if entry.flags & DESCRIBED and (crc, packed, size) in ((0, 0, 0), (0, MAX32, MAX32)):
        return True
    own_size, own_packed = table.wide(path, extra, [size, packed])
    return (crc, own_packed, own_size) == (entry.crc, entry.packed, entry.size)


def _describes(entry: Entry, data: bytes) -> bool:
    """Is what stands behind an entry's bytes nothing, or the descriptor that its flags announce?"""
    if not entry.flags & DESCRIBED:
        return not data
    sizes = [struct.pack(kind, entry.crc, entry.packed, entry.size) for kind in ("<IQQ", "<III") if kind == "<IQQ" or entry.size < MAX32]
    return data in [mark + rest for mark, rest in itertools.product((DESCRIPTOR, b""), sizes)]
