"""Model file → TracedModel, by what is in the file; in this process, which should be a confined one."""

from pathlib import Path

from banscan.errors import ModelError, UsageError
from banscan.importers import unsupported
from banscan.importers.format import Format
from banscan.importers.formats import FORMATS
from banscan.importers.model import TracedModel
from banscan.importers.structure.settle import Settled


def read(
    path: Path, size: tuple[int, int] | None, logits: str | None, settled: Settled | None = None, *, again: bool = False
) -> TracedModel:
    """Reads a model file of any of the formats into the normal form; arguments and errors as of `load`."""
    found = format_of(path)
    if found is not None:
        reader = found.read_again if again else found.read
        if reader is None:
            raise ModelError(f"{path}: there is no second reader of {found.name} files")
        return reader(path, size, logits, settled)
    if other := unsupported.told(path):
        raise ModelError(f"{path}: {other}")
    raise UsageError(f"{path}: not a file; expected the path of a model")


def format_of(path: Path) -> Format | None:
    """The format of a file, by its content."""
    return next((f for f in FORMATS if f.recognises(path)), None) if path.is_file() else None
