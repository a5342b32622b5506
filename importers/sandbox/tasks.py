"""What the confined process does, each with plain values in and out."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from banscan.errors import BanscanError, ModelError
from banscan.importers import carried, formats, reading
from banscan.importers.model import Source
from banscan.importers.onnx import file as file_of_onnx
from banscan.importers.pytorch import torchscript
from banscan.importers.structure import finding, settle


def read(
    path: str, size: tuple[int, int] | None, logits: str | None, settled: dict[str, Any] | None = None, again: bool = False
) -> dict[str, Any]:
    """A model file → its traced form as plain values; `again` by the second reader of its format."""
    without = None if settled is None else settle.restored(settled)
    return carried.plain(reading.read(Path(path), None if size is None else (size[0], size[1]), logits, without, again=again))


def kind(path: str) -> str | None:
    """The name of a file's format; None where it is of none."""
    found = reading.format_of(Path(path))
    return None if found is None else found.name


def beside(path: str) -> list[str]:
    """The files that hold weights of an ONNX file."""
    return [str(file) for file in file_of_onnx.beside(Path(path))]


def look(path: str, logits: str | None) -> dict[str, Any] | None:
    """A model file → what of its graph decides by the pixels, as plain values; None where it is of no format."""
    kind = reading.format_of(Path(path))
    return None if kind is None else asdict(kind.look(Path(path), logits))


def examine(path: str, logits: str | None, pixels: tuple[float, float], seconds: float, images: Tensor) -> dict[str, Any]:
    """What becomes of a file's answers for images [N, ...] when what decides by the pixels decides otherwise."""
    kind = reading.format_of(Path(path))
    if kind is None:
        raise ModelError(f"{path}: no model file")
    structure, settled = kind.examine(Path(path), logits, images.numpy(), (pixels[0], pixels[1]), seconds)
    return {"structure": finding.plain(structure), "settled": settle.plain(settled)}


def run(source: dict[str, Any], images: Tensor) -> Tensor:
    """Float32 images [N, ...] → the answers of the file's own runtime."""
    known = _source(source)
    answer = formats.of(known).run
    assert answer is not None
    try:
        return torch.from_numpy(answer(known, images.numpy()))
    except BanscanError:
        raise
    except Exception as error:  # runtimes have errors of their own
        lines = str(error).strip().splitlines()
        raise ModelError(lines[-1] if lines else type(error).__name__) from error


def deploy(source: dict[str, Any], kind: str, images: Tensor) -> Tensor:
    """The bytes of the file as it would be deployed; see `Format.deploy`."""
    known = _source(source)
    made = formats.of(known).deploy
    assert made is not None
    try:
        return torch.frombuffer(bytearray(made(known, kind, images.numpy())), dtype=torch.uint8)
    except BanscanError:
        raise
    except Exception as error:  # as of `run`
        lines = str(error).strip().splitlines()
        raise ModelError(f"onnxruntime cannot make {kind} of it ({lines[-1] if lines else type(error).__name__})") from error


def write(source: dict[str, Any], weights: dict[str, Tensor]) -> Tensor:
    """The bytes of a TorchScript file with these values in its weights."""
    return torch.frombuffer(bytearray(torchscript.written(_source(source), weights)), dtype=torch.uint8)


def _source(plain: dict[str, Any]) -> Source:
    return Source(**plain | {"path": Path(plain["path"])})


TASKS: dict[str, Callable[..., Any]] = {
    "read": read, "kind": kind, "beside": beside, "look": look, "examine": examine, "run": run, "write": write, "deploy": deploy
}  # fmt: skip
