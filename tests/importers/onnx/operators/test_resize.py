"""Resizing in all of ONNX's modes against onnxruntime."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from banscan import importers
from tests.conftest import CLASSES
from tests.importers.onnx.test_reader import onnxruntime_logits, write


@pytest.mark.parametrize("where", ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("how", ["linear", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("factor", [2.0, 3.0, 1.5, 0.5])
def test_resize(tmp_path: Path, where: str, how: str, factor: float) -> None:
    rng = np.random.default_rng(0)
    kind = {"mode": "linear"} if how == "linear" else {"mode": "nearest", "nearest_mode": how}
    nodes = [
        helper.make_node("Resize", ["x", "", "s"], ["r"], coordinate_transformation_mode=where, **kind),
        helper.make_node("Conv", ["r", "w"], ["c"], strides=[2, 2]),
        helper.make_node("GlobalMaxPool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "m"], ["y"]),
    ]
    weights = {"s": np.array([1, 1, factor, factor]), "w": rng.normal(size=(8, 3, 3, 3)), "m": rng.normal(size=(8, CLASSES))}
    path = write(tmp_path / "resize.onnx", nodes, weights, ["n", 3, 10, 8], ["n", CLASSES])
    x = torch.rand(3, 3, 10, 8)
    assert np.allclose(importers.load(path).logits(x).numpy(), onnxruntime_logits(path, x), atol=1e-4)
