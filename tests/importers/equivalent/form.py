"""A form: one way to write the network into a file."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from tests.importers.equivalent.network import CHANNELS, LAYERS, SIZE, graph


def unit(pictures: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] as the plain file takes them: float32 [N, 3, H, W], 0 to 1."""
    return np.ascontiguousarray((pictures.astype(np.float32) / 255).transpose(0, 3, 1, 2))


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a file is written, and how it is to be read.

    Attributes:
        write: path without suffix → the path of the file that it wrote.
        images: uint8 [N, 16, 16, 3] → what the file takes, of the layout of the input that banscan reads, float32.
        stripped: what has to be taken off behind the logits, last first; None where that is not looked at.
        layers: neuron layers, the classifier's among them.
        exact: relative difference of features and logits that the form explains (float16, 8 bits).
        shifted: whether the logits are known up to a constant for each image only.
        features: whether the features have to be the plain file's.
        same: whether all channels of the pictures have to be the same.
        runtime: whether the file's own runtime takes it.
    """

    write: Callable[[Path], Path]
    images: Callable[[np.ndarray], np.ndarray] = unit
    stripped: tuple[str, ...] | None = None
    layers: int = LAYERS
    exact: float = 1e-4
    shifted: bool = False
    features: bool = True
    same: bool = False
    runtime: bool = True


def onnx_form(change: Callable[[onnx.ModelProto], onnx.ModelProto | None], **how: object) -> Form:
    """A form of the plain ONNX graph, changed in place, or another that is returned."""

    def write(path: Path) -> Path:
        model = graph()
        changed = change(model)
        path = path.with_suffix(".onnx")
        onnx.save(model if changed is None else changed, path)
        return path

    return Form(write=write, **how)  # type: ignore[arg-type]


def torch_form(make: Callable[[], nn.Module], suffix: str, **how: object) -> Form:
    """A form of a module, traced (".pt") or exported (".pt2")."""

    def write(path: Path) -> Path:
        module, example = make().eval(), torch.rand(2, CHANNELS, SIZE, SIZE)
        path = path.with_suffix(suffix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if suffix == ".pt":
                torch.jit.trace(module, example).save(str(path))
            else:
                torch.export.save(torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)), path)
        return path

    return Form(write=write, **how)  # type: ignore[arg-type]
