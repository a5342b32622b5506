"""ONNX operators as torch calls; each file registers its own when it is imported here."""

from banscan.importers.onnx.operators import elementwise, layers, padding, pooling, resize, shapes
from banscan.importers.onnx.operators.registry import OPERATORS, Call

__all__ = ["OPERATORS", "Call", "elementwise", "layers", "padding", "pooling", "resize", "shapes"]
