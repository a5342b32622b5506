"""TracedModel → the file as it would be deployed, made by its own runtime in a confined process."""

from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from banscan.errors import UsageError
from banscan.importers import formats, sandbox
from banscan.importers.model import TracedModel
from banscan.importers.sandbox.budget import deploying, reading

# images that ranges are taken from at most
CALIBRATED = 100


def check(path: Path, kind: str) -> None:
    """Looks at the format of a file alone.

    Raises:
        UsageError: one without a runtime that makes this of it; a file of no format is left to who reads it.
    """
    name, _ = sandbox.call("kind", {"path": str(path)}, None, path=path, budget=reading(path))
    if any(f.name == name and f.deploy is None for f in formats.FORMATS):
        raise UsageError(f"{path}: a {name} file has no runtime that makes {kind} of it here; export the model as ONNX")


def deploy(model: TracedModel, kind: str, images: Tensor) -> bytes:
    """The model's file in another precision, by the usual settings of its runtime.

    Args:
        kind: "int8" for static quantisation, which takes ranges of activations from the images, "int8-dynamic", which takes them from each
            image, or "fp16".
        images: preprocessed float32 images [N, ...], on the CPU, for the ranges of activations; evenly spread ones of them are taken.

    Raises:
        UsageError: a format without a runtime that does this.
        ModelError: its runtime cannot do it with this file.
    """
    source = model.source
    check(source.path, kind)
    few = images[:: max(1, -(-len(images) // CALIBRATED))]
    given = {"source": asdict(source) | {"path": str(source.path)}, "kind": kind}
    made, _ = sandbox.call("deploy", given, {"images": few}, path=source.path, budget=deploying(source.path, few.numel()))
    return bytes(memoryview(made.numpy()))
