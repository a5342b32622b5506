"""Archives taken apart and put together again, byte by byte where that is what a test is about."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

Change = Callable[[str, bytes], bytes | None]


def entries(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def packed(parts: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in parts:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def changed(data: bytes, change: Change, extra: dict[str, bytes] | None = None) -> bytes:
    """With every entry put through `change`, which leaves out those for which it answers None, and more behind them."""
    parts = [(name, new) for name, old in entries(data) if (new := change(name, old)) is not None]
    return packed([*parts, *(extra or {}).items()])


def ends(data: bytes) -> tuple[int, int]:
    """Where the table of contents and the end record start."""
    end = data.rindex(b"PK\5\6")
    return int(struct.unpack_from("<I", data, end + 16)[0]), end


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def first_central(data: bytes) -> int:
    return ends(data)[0]


def inserted(source: Path, code: str, *, into: bytes = b"x: Tensor) -> Tensor:\n") -> bytes:
    """A TorchScript archive with code in front of the body of the functions whose head ends so."""

    def change(name: str, data: bytes) -> bytes:
        return data.replace(into, into + code.encode(), 1) if "/code/" in name and name.endswith(".py") else data

    return changed(source.read_bytes(), change)
