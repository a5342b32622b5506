"""Model file → TracedModel, by what is in the file."""

from pathlib import Path

from banscan.errors import ModelError, UsageError
from banscan.importers import unsupported
from banscan.importers.formats import FORMATS
from banscan.importers.model import TracedModel


def load(path: str | Path, size: tuple[int, int] | None = None, logits: str | None = None) -> TracedModel:
    """Reads a model file of any of the formats into the normal form; what it is tells its content, not its name.

    Args:
        size: height and width of the images, for a model that leaves them free; the graph then takes this size only.
        logits: the output that holds them, for an ONNX file with several.

    Raises:
        UsageError: there is no such file, or it names no outputs.
        ModelError: the file is damaged, is refused, or holds no image classifier that can be traced.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected the path of a model")
    found = next((f for f in FORMATS if f.recognises(path)), None) if path.is_file() else None
    if found is not None:
        return found.read(path, size, logits)
    if other := unsupported.told(path):
        raise ModelError(f"{path}: {other}")
    raise UsageError(f"{path}: not a file; expected the path of a model")
