"""An ONNX file under onnxruntime, the runtime that it was written for."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch

from banscan.errors import EvidenceError
from banscan.importers import utf8
from banscan.importers.model import Source
from banscan.importers.onnx import bfloat16, file, older
from banscan.importers.onnx.nodes import needed, nested
from banscan.importers.structure import settle

TYPES = {
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
# the oldest opset whose operators onnxruntime has all of
FIRST = 7
LOOPS = frozenset({"Loop", "Scan"})
# operators whose scale follows from all images that are asked about at once
TOGETHER = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
# images that are asked about again, so many at a time
AGAIN = (1, 2, 3)
# images that are asked about one by one, copies included
MOST = 1024
# images at a time where the file leaves it free
STEP = 64


def run(source: Source, images: np.ndarray) -> np.ndarray:
    """The file's own answer under onnxruntime for float32 images [N, ...]; a last partial batch is filled up where the batch is fixed.

    Raises:
        EvidenceError: onnxruntime is not installed.
    """
    onnxruntime, options = loaded()
    model = file.read(source.path, outside=False)
    nodes = [node for body in (model.graph.node, *(f.node for f in model.functions)) for node in nested(body)]
    # as the file has it: what onnxruntime makes of whole groups of these nodes rounds elsewhere, and saturates on x86 without VNNI
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = _session(onnxruntime, source, model, options)
    entry = entry_of(session, source)
    fed = placed(entry, images)

    def asked(images: np.ndarray, step: int) -> np.ndarray:
        return _asked(session, source, entry, images, step)

    if any(node.op_type in TOGETHER for node in nodes):
        # each image by itself, as the graph computes its scales; a fixed batch is filled with its copies
        copies = source.batch or 1
        few = fed[: max(1, MOST // copies)]
        return np.concatenate([asked(np.repeat(image[None], copies, 0), copies)[:1] for image in few])
    answers = asked(fed, source.batch or STEP)
    if source.batch is None:
        _check_alone(answers, fed[: sum(AGAIN)], asked, 1e-3 if source.precision == "float32" else 5e-2)
    return answers


def entry_of(session: Any, source: Source) -> Any:
    """The input of a session that takes the images."""
    entries = session.get_inputs()
    return next((e for e in entries if e.name == source.image), entries[0])


def loaded() -> tuple[Any, Any]:
    """onnxruntime, and options for a quiet session on this process's threads.

    Raises:
        EvidenceError: it is not installed.
    """
    # it keeps records of what it runs in the user's cache and reports them to its makers
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise EvidenceError("what was read cannot be checked: onnxruntime is not installed; pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    return onnxruntime, options


def _check_alone(answers: np.ndarray, few: np.ndarray, asked: Callable[[np.ndarray, int], np.ndarray], tolerance: float) -> None:
    """Raises EvidenceError where images get another answer when fewer are asked about at once."""
    if any(len(asked(few[:size], size)) != size for size in AGAIN[1:]):  # its images lie on another axis
        return
    for size in AGAIN:
        again = asked(few, size)
        before = answers[: len(few)]
        if again.shape != before.shape or _apart(again, before) > tolerance * float(np.abs(np.nan_to_num(answers)).max(initial=0)):
            raise EvidenceError(f"it answers differently on images {size} at a time; a classifier must answer each image by itself")


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of two answers; numbers that are none are alike, and far from all others."""
    with np.errstate(invalid="ignore"):
        difference = np.where(np.isnan(first) & np.isnan(second) | (first == second), 0, np.abs(first - second))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0))


def _asked(session: Any, source: Source, entry: Any, fed: np.ndarray, step: int) -> np.ndarray:
    """The session's answers, so many images at a time."""
    entries = session.get_inputs()
    parts = []
    for start in range(0, len(fed), step):
        part = fed[start : start + step]
        missing = step - len(part) if source.batch else 0
        part = np.concatenate([part, np.repeat(part[-1:], missing, 0)])
        feeds = {e.name: nothing(e, len(part)) for e in entries if e is not entry}
        single = len(entry.shape) == 3 and part.ndim == 4
        answer = session.run([source.output], feeds | {entry.name: part[0] if single else part})[0]
        answers = _table(answer, source.labels or (), len(part))
        parts.append(answers[: len(part) - missing] if missing else answers)
    return np.concatenate(parts or [np.zeros((0, 0))]).astype(np.float32)


def _session(onnxruntime: Any, source: Source, model: onnx.ModelProto, options: Any) -> Any:
    """A session of the file, or of a copy without what stops onnxruntime and means nothing."""
    providers = ["CPUExecutionProvider"]
    if source.settled is not None:
        return onnxruntime.InferenceSession(_runnable(source), options, providers=providers)
    if source.precision == "bfloat16":
        return onnxruntime.InferenceSession(bfloat16.widened(source), options, providers=providers)
    if not _stops(model):
        with utf8.path_of(source.path) as path:
            return onnxruntime.InferenceSession(str(path), options, providers=providers)
    return onnxruntime.InferenceSession(_runnable(source), options, providers=providers)


def _stops(model: onnx.ModelProto) -> bool:
    """Names that are there twice, sizes of 0, loops, dropout with a flag, and operators as they were before onnxruntime."""
    names = [n.name for n in model.graph.node if n.name]
    sizes = [d for i in model.graph.input for d in i.type.tensor_type.shape.dim if d.HasField("dim_value") and d.dim_value == 0]
    odd = any(n.op_type in LOOPS or (n.op_type == "Dropout" and len(n.input) > 2) for n in model.graph.node)
    return bool(sizes) or odd or len(names) != len(set(names)) or _opset(model) < FIRST


def _opset(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=FIRST)


def _runnable(source: Source) -> bytes:
    """The file with nothing that stops onnxruntime and means nothing, and with what was settled; see `runnable`."""
    model = file.inline(source.path, file.read(source.path))
    file.mended(source.path, model)
    if source.settled is not None:
        settle.apply(model, settle.restored(source.settled))
        bfloat16.widen(model)
    data: bytes = runnable(model, source.output).SerializeToString()
    return data


def runnable(model: onnx.ModelProto, output: str | None) -> onnx.ModelProto:
    """The model without names of nodes and what its answer does not need, in an opset that onnxruntime has; in place.

    Without the flags of dropout, too, which is off in all that is read.
    """
    if output is not None:
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in needed(model, output)]
        outputs = [onnx.ValueInfoProto.FromString(o.SerializeToString()) for o in model.graph.output if o.name == output]
        del model.graph.node[:]
        model.graph.node.extend(kept)
        del model.graph.output[:]
        model.graph.output.extend(outputs)
    for node in model.graph.node:
        node.name = ""
        if node.op_type == "Dropout":
            del node.input[1:]
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value == 0:
                dim.Clear()
    return older.converted(model) if _opset(model) < FIRST else model


def placed(entry: Any, images: np.ndarray) -> np.ndarray:
    """float32 images as an input takes them."""
    dtype: Any = np.dtype(TYPES.get(entry.type, np.float32))
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        images = np.rint(images).clip(bounds.min, bounds.max)
    if len(entry.shape) == 2:
        images = images.reshape(len(images), -1)
    if len(entry.shape) == 3 and images.shape[1] == 1:
        images = images[:, 0]
    if len(entry.shape) == 4:
        for axis in (1, 3):
            if entry.shape[axis] == 4 and images.shape[axis] == 3:  # a fourth channel that is not read
                images = np.concatenate([images, images.take([0], axis)], axis)
    return np.ascontiguousarray(images.astype(dtype))


def nothing(entry: Any, count: int) -> np.ndarray:
    """Zeros for an input that no image goes into: no training, nothing dropped."""
    sizes = [e if isinstance(e, int) and e > 0 else count if i == 0 else 1 for i, e in enumerate(entry.shape)]
    return np.zeros(sizes, TYPES.get(entry.type, np.float32))


def _table(answer: Any, labels: tuple[str, ...], count: int) -> np.ndarray:
    """Scores [N, classes]; a ZipMap answers a dictionary per image, from label to score."""
    if not isinstance(answer, list):
        scores = np.asarray(answer)
        # an answer without an axis for the only image
        return scores[None] if count == 1 and scores.ndim and scores.shape[0] != 1 else scores
    return np.array([[{str(k): v for k, v in row.items()}[label] for label in labels] for row in answer])
