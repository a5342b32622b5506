"""The formats that are read, each declared by its own reader."""

from banscan.importers.format import Format
from banscan.importers.model import Source
from banscan.importers.onnx.format import ONNX
from banscan.importers.pytorch.exported import EXPORTED
from banscan.importers.pytorch.torchscript import TORCHSCRIPT

# asked in this order what a file is; ONNX, which has no signature, comes last
FORMATS = (TORCHSCRIPT, EXPORTED, ONNX)


def of(source: Source) -> Format:
    """The format of the file that a model came from."""
    return next(f for f in FORMATS if f.name == source.format)
