"""Model file → TracedModel, by what is in the file; in this process, which should be a confined one."""

from pathlib import Path

from banscan.errors import ModelError, UsageError
from banscan.importers import unsupported
from banscan.importers.formats import FORMATS
from banscan.importers.model import TracedModel


def read(path: Path, size: tuple[int, int] | None, logits: str | None) -> TracedModel:
    """Reads a model file of any of the formats into the normal form; arguments and errors as of `load`."""
    found = next((f for f in FORMATS if f.recognises(path)), None) if path.is_file() else None
    if found is not None:
        return found.read(path, size, logits)
    if other := unsupported.told(path):
        raise ModelError(f"{path}: {other}")
    raise UsageError(f"{path}: not a file; expected the path of a model")
