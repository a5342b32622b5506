"""What a model file is known by."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from banscan.errors import BanscanError

# in every ONNX file that keeps weights in files beside it
OUTSIDE = b"location"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return _hashed(path)[0]


def identity(path: Path, beside: Callable[[Path], list[Path]] | None = None) -> str:
    """What tells a model from every other: the SHA-256 of its file, in hexadecimal.

    Of one that keeps weights in files beside it, that of this number and theirs in the order of their names, one after the other as text.

    Args:
        beside: names these files, for a process that may read the model itself; by default a confined one is asked.
    """
    own, outside = _hashed(path)
    if not outside:
        return own
    try:
        files = (beside or _beside)(path)
        parts = [own, *(sha256(file) for file in files)]
    except (BanscanError, OSError):  # who reads the model says what is wrong
        return own
    return hashlib.sha256("".join(parts).encode()).hexdigest() if files else own


def _beside(path: Path) -> list[Path]:
    from banscan.importers.sandbox import budget, client  # hardly any file needs them

    files, _ = client.call("beside", {"path": str(path)}, None, path=path, budget=budget.reading(path))
    return [Path(file) for file in files]


def _hashed(path: Path) -> tuple[str, bool]:
    """The SHA-256, and whether there may be files beside this one that belong to it."""
    if not path.is_file():  # a pipe would be waited for, and a device read without end
        raise OSError(errno.EINVAL, "it is no file" if os.path.lexists(path) else "no such file")
    digest, outside, end = hashlib.sha256(), False, b""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            outside = outside or OUTSIDE in end + chunk
            end = chunk[-len(OUTSIDE) :]
    return digest.hexdigest(), outside
