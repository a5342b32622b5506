"""An ONNX file as it would be deployed: with onnxruntime's own quantisation or half precision, by its usual settings."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from banscan.errors import ModelError
from banscan.importers.model import Source
from banscan.importers.onnx import file, runtime

STATIC, DYNAMIC, HALF = "int8", "int8-dynamic", "fp16"
# onnxruntime quantises graphs of this opset and newer
OLDEST = 10


def converted(source: Source, kind: str, images: np.ndarray) -> bytes:
    """The file in another precision, see `deploy.deploy`; the ranges of activations come from preprocessed float32 images [N, ...].

    Raises:
        ModelError: onnxruntime does not convert it.
    """
    model = file.read(source.path)
    file.mended(source.path, model)
    if source.precision != "float32":
        raise ModelError(f"{source.path}: its weights are {source.precision} already; --as is for files in float32")
    if kind not in (STATIC, DYNAMIC, HALF):
        raise ModelError(f"{kind} is no way of deploying a model; expected {STATIC}, {DYNAMIC} or {HALF}")
    made = _half(model) if kind == HALF else _quantised(source, model, kind, images)
    data: bytes = made.SerializeToString()
    return data


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    return made


def _quantised(source: Source, model: onnx.ModelProto, kind: str, images: np.ndarray) -> onnx.ModelProto:
    runtime.loaded()  # before anything of it is imported: its reports to its makers are off
    from onnxruntime import quantization

    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST:
        raise ModelError(
            f"{source.path}: onnxruntime quantises graphs of opset {OLDEST} or newer, and this one has {opset}; export it again"
        )
    with tempfile.TemporaryDirectory() as folder:
        plain, out = Path(folder) / "plain.onnx", Path(folder) / "deployed.onnx"
        onnx.save(model, plain)
        if kind == DYNAMIC:
            # few machines have integer convolutions for signed weights
            quantization.quantize_dynamic(plain, out, weight_type=quantization.QuantType.QUInt8)
        else:
            quantization.quantize_static(plain, out, _reader(source, plain, images))
        return onnx.load(out)


def _reader(source: Source, plain: Path, images: np.ndarray) -> Any:
    """Feeds the images as onnxruntime's quantisation wants them."""
    from onnxruntime.quantization import CalibrationDataReader

    feeds = _feeds(source, plain, images)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    return Reader()


def _feeds(source: Source, plain: Path, images: np.ndarray) -> Iterator[dict[str, Any]]:
    onnxruntime, options = runtime.loaded()
    session = onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    entry = runtime.entry_of(session, source)
    fed, step = runtime.placed(entry, images), source.batch or 1
    for start in range(0, len(fed) - step + 1, step):
        yield {entry.name: fed[start : start + step]} | {
            e.name: runtime.nothing(e, step) for e in session.get_inputs() if e.name != entry.name
        }
