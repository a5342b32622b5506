"""TracedModel → the file as it would be deployed, made by its own runtime in a confined process."""

from dataclasses import asdict

from torch import Tensor

from banscan.errors import ModelError
from banscan.importers import formats, sandbox
from banscan.importers.model import TracedModel
from banscan.importers.sandbox.budget import deploying

# images that ranges are taken from at most
CALIBRATED = 100


def deploy(model: TracedModel, kind: str, images: Tensor) -> bytes:
    """The model's file in another precision, by the usual settings of its runtime.

    Args:
        kind: "int8" for static quantisation, which takes ranges of activations from the images, "int8-dynamic", which takes them from each
            image, or "fp16".
        images: preprocessed float32 images [N, ...], on the CPU, for the ranges of activations; evenly spread ones of them are taken.

    Raises:
        ModelError: a format without a runtime that does this, or one that cannot do it with this file.
    """
    source = model.source
    if formats.of(source).deploy is None:
        raise ModelError(f"{source.path}: a {source.format} file has no runtime that makes {kind} of it here; export the model as ONNX")
    few = images[:: max(1, -(-len(images) // CALIBRATED))]
    given = {"source": asdict(source) | {"path": str(source.path)}, "kind": kind}
    made, _ = sandbox.call("deploy", given, {"images": few}, path=source.path, budget=deploying(source.path, few.numel()))
    return bytes(memoryview(made.numpy()))
