"""What scikit-learn does to rows of values before a network sees them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, operator


@operator("ai.onnx.ml::Scaler")
def scaler(call: Call, x: Tensor) -> Tensor:
    """Its StandardScaler."""
    offset, scale = (torch.tensor(call.get(key, [default]), dtype=torch.float32) for key, default in (("offset", 0.0), ("scale", 1.0)))
    return (x - offset) * scale


@operator("ai.onnx.ml::Normalizer")
def normalizer(call: Call, x: Tensor) -> Tensor:
    """Rows scaled to norm 1."""
    norm = call.get("norm", "MAX")
    if norm == "MAX":
        return x / x.amax(1, keepdim=True)
    return F.normalize(x, p=1.0 if norm == "L1" else 2.0, dim=1)
