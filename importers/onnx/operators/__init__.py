"""ONNX operators as torch calls; each file registers its own when it is imported here."""

from banscan.importers.onnx.operators import (
    activations,
    elementwise,
    indexing,
    layers,
    loops,
    microsoft,
    padding,
    pooling,
    quantised,
    recurrent,
    reductions,
    resize,
    rows,
    sequences,
    shapes,
    symbols,
)
from banscan.importers.onnx.operators.registry import OPERATORS, Call

__all__ = [
    "OPERATORS",
    "Call",
    "activations",
    "elementwise",
    "indexing",
    "layers",
    "loops",
    "microsoft",
    "padding",
    "pooling",
    "quantised",
    "recurrent",
    "reductions",
    "resize",
    "rows",
    "sequences",
    "shapes",
    "symbols",
]
