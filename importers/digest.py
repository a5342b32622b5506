"""What a model file is known by."""

import hashlib
from pathlib import Path

from banscan.errors import BanscanError

# in every ONNX file that keeps weights in files beside it
OUTSIDE = b"location"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return _hashed(path)[0]


def identity(path: Path) -> str:
    """What tells a model from every other: the SHA-256 of its file, in hexadecimal.

    Of one that keeps weights in files beside it, that of this number and theirs in the order of their names, one after the other as text.
    """
    own, outside = _hashed(path)
    if not outside:
        return own
    from banscan.importers.onnx.file import beside  # hardly any needs it

    try:
        files = beside(path)
        parts = [own, *(sha256(file) for file in files)]
    except (BanscanError, OSError):  # who reads the model says what is wrong
        return own
    return hashlib.sha256("".join(parts).encode()).hexdigest() if files else own


def _hashed(path: Path) -> tuple[str, bool]:
    """The SHA-256, and whether there may be files beside this one that belong to it."""
    digest, outside, end = hashlib.sha256(), False, b""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            outside = outside or OUTSIDE in end + chunk
            end = chunk[-len(OUTSIDE) :]
    return digest.hexdigest(), outside
