"""ONNX as a format."""

from pathlib import Path

from banscan.importers import unsupported
from banscan.importers.format import Format
from banscan.importers.onnx.deployed import converted
from banscan.importers.onnx.lacking import SECOND
from banscan.importers.onnx.reader import NAME, read, read_again
from banscan.importers.onnx.runtime import run
from banscan.importers.onnx.writer import write
from banscan.importers.structure.check import examine, look


def recognises(path: Path) -> bool:
    """Protobuf has no signature: what is nobody else's is taken for ONNX, and its reader says so where it is none."""
    return unsupported.told(path) is None


ONNX = Format(
    name=NAME,
    suffixes=(".onnx",),
    recognises=recognises,
    read=read,
    second=SECOND,
    read_again=read_again,
    look=look,
    examine=examine,
    runtime="onnxruntime",
    run=run,
    write=write,
    deploy=converted,
)
