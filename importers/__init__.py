"""Model files in, one traced graph out; nothing of noise is known here."""

from pathlib import Path

from banscan.errors import ModelError, UsageError
from banscan.importers import unsupported
from banscan.importers.model import Input, Neuron, Source, TracedModel, attribute_named
from banscan.importers.onnx import reader
from banscan.importers.parity import Parity, parity
from banscan.importers.pytorch import archive, exported, torchscript

__all__ = ["Input", "Neuron", "Parity", "Source", "TracedModel", "attribute_named", "load", "parity"]


def load(path: str | Path, size: tuple[int, int] | None = None, logits: str | None = None) -> TracedModel:
    """Reads a model file (ONNX, TorchScript, torch.export) into the normal form; what it is tells its content, not its name.

    Args:
        size: height and width of the images, for a model that leaves them free; the graph then takes this size only.
        logits: the output that holds them, for an ONNX file with several.

    Raises:
        UsageError: there is no such file.
        ModelError: the file is damaged, is refused, or holds no image classifier that can be traced.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected the path of a model")
    kind = archive.kind(path) if path.is_file() else None
    if kind is None and (other := unsupported.told(path)):
        raise ModelError(f"{path}: {other}")
    if not path.is_file():
        raise UsageError(f"{path}: not a file; expected the path of a model")
    if logits is not None and kind is not None:
        raise UsageError(f"{path}: --logits names an output of an ONNX file; this is none")
    if kind == "TorchScript":
        return torchscript.load(path, size)
    if kind == "pickle":
        raise ModelError(
            f"{path}: a pickle of weights or of a Python object, without the graph; save the model with torch.onnx.export or "
            "torch.jit.trace(model, example).save(path)"
        )
    if kind == "torch.export":
        return exported.load(path, size)
    return reader.load(path, size, logits)
