"""Model files in, one traced graph out; nothing of noise is known here."""

from pathlib import Path

from banscan.importers import onnx
from banscan.importers.graph import Input, Neuron, Source, TracedModel
from banscan.importers.parity import Parity, parity

__all__ = ["Input", "Neuron", "Parity", "Source", "TracedModel", "load", "parity"]


def load(path: str | Path) -> TracedModel:
    """Reads a model file into the normal form; see `banscan.importers.onnx.load` for what it raises."""
    return onnx.load(Path(path))
