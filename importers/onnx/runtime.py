"""An ONNX file under onnxruntime, the runtime that it was written for."""

import os
from typing import Any

import numpy as np
import torch

from banscan.importers import utf8
from banscan.importers.model import Source
from banscan.importers.onnx import bfloat16


def run(source: Source, images: np.ndarray) -> np.ndarray:
    """The file's own answer under onnxruntime for float32 images [N, ...]; a last partial batch is left out where the batch is fixed."""
    # it keeps records of what it runs in the user's cache and reports them to its makers
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    with utf8.path_of(source.path) as path:
        model = bfloat16.widened(source) if source.precision == "bfloat16" else str(path)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}.get(entry.type, np.float32)
    step, count = source.batch or 64, len(images) // (source.batch or 1) * (source.batch or 1)
    if len(entry.shape) == 2:
        images = images.reshape(len(images), -1)
    parts = [session.run([source.output], {entry.name: images[i : min(i + step, count)].astype(dtype)})[0] for i in range(0, count, step)]
    return np.concatenate([_table(part, source.labels or ()) for part in parts]).astype(np.float32)


def _table(answer: Any, labels: tuple[str, ...]) -> np.ndarray:
    """Scores [N, classes]; a ZipMap answers a dictionary per image, from label to score."""
    if not isinstance(answer, list):
        return np.asarray(answer)
    return np.array([[{str(k): v for k, v in row.items()}[label] for label in labels] for row in answer])
