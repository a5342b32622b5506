"""TorchScript file → TracedModel: PyTorch loads the graph, which is then recorded as an ATen graph with a free batch."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers import sandbox
from banscan.importers.digest import sha256
from banscan.importers.format import Format
from banscan.importers.model import EXAMPLE_SIZE, Input, Source, TracedModel
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.importers.pytorch import archive, script_reader
from banscan.importers.pytorch.script import Script
from banscan.importers.pytorch.script_reader import UnreadableError
from banscan.importers.sandbox.budget import reading

NAME = "TorchScript"
# sides tried where the file does not say what it was traced with; the first that a size-bound network takes is its own
SIZES = (EXAMPLE_SIZE, 32, 28, 64, 96, 128, 160, 192, 227, 240, 256, 299, 320, 331, 384, 448, 512)


def read(path: Path, size: tuple[int, int] | None, logits: str | None) -> TracedModel:
    """Reads a TorchScript classifier, traced, scripted or frozen; `size` is for images whose size it leaves free.

    Raises:
        UsageError: `logits` names an output.
        ModelError: the archive is refused or damaged, or holds no image classifier that can be traced.
    """
    archive.check_unnamed(path, logits)
    archive.check_script(path)
    try:
        module = Script(script_reader.read(script_reader.opened(path)))
    except (UnreadableError, RuntimeError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else type(error).__name__
        raise ModelError(f"{path}: not a TorchScript model that can be read ({reason}); export it again with torch.jit.trace") from error
    spec = _input(path, module).sized(size)
    traced = export(path, module, spec.example())
    names = {attribute: name for name, attribute in module.attributes.items()}
    source = Source(path, NAME, "PyTorch", None, sha256(path), None, weights=names)
    return normalise(traced, spec, source)


def run(source: Source, images: np.ndarray) -> np.ndarray:
    """The file's own answer under TorchScript for float32 images [N, ...]."""
    answers: np.ndarray = script_reader.run(source.path, torch.from_numpy(images)).numpy()
    return answers


def write(source: Source, weights: dict[str, Tensor], path: Path) -> None:
    """Writes the file with other values in these of its weights, given by the file's own names, to `path`.

    Raises:
        ModelError: a weight that the file does not hold as one.
    """
    known = asdict(source) | {"path": str(source.path)}
    answer, _ = sandbox.call("write", {"source": known}, {"weights": weights}, path=source.path, budget=reading(source.path))
    path.write_bytes(answer.numpy().tobytes())


def written(source: Source, weights: dict[str, Tensor]) -> bytes:
    """What `write` writes; in a confined process."""
    try:
        return script_reader.write(source.path, weights)
    except (UnreadableError, RuntimeError, ValueError) as error:
        raise ModelError(f"{source.path}: {error}") from error


def _input(path: Path, module: Script) -> Input:
    """Channels and size: those it was traced with, or the first that it takes."""
    if module.sizes is not None and len(module.sizes) == 4:
        _, channels, height, width = module.sizes
        if channels not in (1, 3):
            raise ModelError(f"{path}: it was traced with {channels} channels; expected images [N, channels, height, width], grey or RGB")
        return Input("image", "NCHW", channels, height, width)
    reason = ""
    taken: list[tuple[int, int]] = []
    for channels in (3, 1):
        for size in SIZES:
            try:
                with torch.no_grad():
                    module(torch.zeros(2, channels, size, size))
            except (RuntimeError, ValueError, IndexError, TypeError, ModelError) as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                continue
            taken.append((channels, size))
            if len(taken) == 2:
                break
        if taken:
            break
    if not taken:
        raise ModelError(
            f"{path}: it takes no images of {SIZES[-1]} pixels or fewer ({reason}); export it as ONNX, which says its input size"
        )
    channels, size = taken[0]
    free = len(taken) > 1
    return Input("image", "NCHW", channels, None if free else size, None if free else size)


TORCHSCRIPT = Format(
    name=NAME,
    suffixes=(".pt", ".ts", ".torchscript"),
    recognises=lambda path: archive.kind(path) == NAME,
    read=read,
    runtime=NAME,
    run=run,
    write=write,
)
