"""ONNX file → TracedModel: the graph is interpreted by torch calls and recorded as an ATen graph with a free batch."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import nn

from banscan.errors import BanscanError, ModelError
from banscan.importers.digest import identity
from banscan.importers.model import Source, TracedModel
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.importers.onnx import file, inputs, nchwc, outputs, quantised, second
from banscan.importers.onnx.interpreter import Interpreter
from banscan.importers.onnx.nodes import read_by
from banscan.importers.onnx.outputs import FLOATS
from banscan.importers.sandbox import confinement
from banscan.importers.structure import settle
from banscan.importers.structure.settle import Settled

NAME = "ONNX"


def read(path: Path, size: tuple[int, int] | None, logits: str | None, settled: Settled | None = None) -> TracedModel:
    """Reads an ONNX classifier; `size` is for images whose size it leaves free, `logits` names one of several outputs.

    `settled` is put into the graph before.

    Raises:
        ModelError: the file is not ONNX, is damaged, or holds no image classifier that can be traced; an OperatorError where a second
            reader may do better.
    """
    opened = _opened(path, size, logits, settled)
    model, images, batch = opened.model, opened.images, opened.images.batch
    with _told(path):
        module = Interpreter(model, images, opened.output.tensor, batch)
        if images.alpha is not None:
            _check_alpha(module, images)
        try:
            graph = export(path, module, images.spec.example())
        except ModelError as error:
            if batch is not None:
                raise
            # perhaps a free batch in front of constants that were written down for one image
            batch = 1
            try:
                module = Interpreter(model, images, opened.output.tensor, batch)
                graph = export(path, module, images.spec.example())
            except ModelError:
                raise error from None
    weights = {attribute: name for name, attribute in module.attributes.items() if name not in opened.foreign | module.reduced}
    source = replace(opened.source, batch=batch, weights=weights)
    del model, opened  # as large as the weights that the module holds now
    return normalise(graph, images.spec, source)


def read_again(path: Path, size: tuple[int, int] | None, logits: str | None, settled: Settled | None = None) -> TracedModel:
    """`read` by the second reader, for a file that the first one does not read, or does not read right.

    Raises:
        ModelError: as of `read`; the second reader is not installed, or does not read the file.
    """
    opened = _opened(path, size, logits, settled)
    images = opened.images
    confinement.grant(nodes=len(opened.model.graph.node))
    with _told(path):
        module = second.Second(opened.model, images, opened.output.tensor)
        if images.alpha is not None:
            _check_alpha(module, images)
        graph = export(path, module, images.spec.example())
    weights = second.named(graph, module.weights)
    own = {constant: name for constant, name in weights.items() if name not in opened.foreign}
    source = replace(opened.source, weights=own, reader=second.version())
    del module, opened
    return normalise(graph, images.spec, source)


@dataclass(frozen=True)
class _Opened:
    """A file's graph with what was found in it; `foreign` names weights that the file does not hold in this form."""

    model: onnx.ModelProto
    output: outputs.Output
    images: inputs.Images
    foreign: set[str]
    source: Source


def _opened(path: Path, size: tuple[int, int] | None, logits: str | None, settled: Settled | None) -> _Opened:
    model = file.inline(path, file.read(path))
    foreign = file.mended(path, model)
    if settled is not None:
        settle.apply(model, settled)
    foreign |= nchwc.plain(path, model)
    with _told(path):
        eight_bit = quantised.dequantise(model)
    output = outputs.find(path, model, logits)
    images = inputs.find(path, model, read_by(model, output.tensor))
    images = replace(images, spec=images.spec.sized(size))
    source = Source(
        path=path,
        format=NAME,
        producer=f"{model.producer_name} {model.producer_version.partition(' ')[0]}".strip() or "unknown",
        opset=max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0),
        sha256=identity(path, file.beside),
        batch=images.batch,
        precision="8 bits" if eight_bit else _precision(model),
        image=images.name,
        output=output.name,
        labels=output.labels,
        settled=None if settled is None else settle.plain(settled),
    )
    return _Opened(model, output, images, foreign, source)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Names the file in errors that do not."""
    try:
        yield
    except BanscanError as error:
        raise error if str(error).startswith(str(path)) else type(error)(f"{path}: {error}") from error


@torch.no_grad()
def _check_alpha(module: nn.Module, images: inputs.Images) -> None:
    """Raises ModelError where the fourth channel of an image makes a difference; images have three."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(images.spec.example().shape, generator=generator) * 255
    other = torch.rand_like(pixels.narrow(images.alpha or 1, 0, 1)) * 255
    answers = [module(pixels, alpha) for alpha in (None, other)]
    if not torch.equal(*answers):
        raise ModelError(f"the input {images.name!r} has 4 channels, and the model reads the fourth; expected grey or RGB images")


def _precision(model: onnx.ModelProto) -> str:
    """The type of most of the weights; of bfloat16 some are enough, because onnxruntime cannot compute with them."""
    counts: dict[int, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type in FLOATS:
            counts[tensor.data_type] = counts.get(tensor.data_type, 0) + math.prod(tensor.dims)
    if counts.get(onnx.TensorProto.BFLOAT16, 0) > 1:
        return "bfloat16"
    return "float16" if max(counts, key=counts.__getitem__, default=0) == onnx.TensorProto.FLOAT16 else "float32"
