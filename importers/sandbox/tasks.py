"""What the confined process does, each with plain values in and out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from banscan.errors import BanscanError, ModelError
from banscan.importers import carried, formats, reading
from banscan.importers.model import Source
from banscan.importers.pytorch import torchscript


def read(path: str, size: tuple[int, int] | None, logits: str | None) -> dict[str, Any]:
    """A model file → its traced form as plain values."""
    return carried.plain(reading.read(Path(path), None if size is None else (size[0], size[1]), logits))


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


TASKS: dict[str, Callable[..., Any]] = {"read": read, "run": run, "write": write, "deploy": deploy}
