"""What was read, and where the scan runs, in plain values."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from banscan.importers import TracedModel
from banscan.importers.digest import identity
from banscan.importers.formats import FORMATS, of
from banscan.importers.structure.finding import Look
from banscan.kernels import described
from banscan.scanner.findings import ImageFacts, ModelFacts
from banscan.scanner.inputs.images import CleanSet
from banscan.text import counted
from banscan.version import __version__

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy")


def of_model(model: TracedModel) -> ModelFacts:
    """What was read from a model file."""
    source = model.source
    return ModelFacts(
        path=source.path,
        sha256=source.sha256,
        format=source.format,
        producer=source.producer,
        opset=source.opset,
        precision=source.precision,
        runtime=of(source).runtime,
        output=source.output,
        batch=source.batch,
        input=model.input,
        classes=model.classes,
        layers=len(model.neurons),
        neurons=sum(n.channels for n in model.neurons),
        features=model.features,
        spatial=model.spatial,
        classifier=model.classifier,
        stripped=model.stripped,
        notes=tuple(notes(model)),
        reader=source.reader,
    )


def of_unread(path: Path, seen: Look) -> ModelFacts:
    """What is known of a file that could not be read for the logic in its graph."""
    known = next(f for f in FORMATS if f.recognises(path))
    return ModelFacts(
        path=path,
        sha256=identity(path),
        format=known.name,
        producer="unknown",
        opset=None,
        precision="unknown",
        runtime=known.runtime,
        output=None,
        batch=None,
        input=seen.input,
        classes=seen.classes,
        layers=0,
        neurons=0,
        features="unknown",
        spatial=None,
        classifier=(),
        stripped=(),
        notes=("the network was not read",),
    )


def notes(model: TracedModel) -> list[str]:
    """What was changed on the way from the file to the graph."""
    told = []
    if model.stripped:
        told.append(f"took {', '.join(model.stripped)} off the output")
    if model.source.labels is not None and model.class_names is None:
        named = counted(len(model.source.labels), "class", "classes")
        told.append(f"the file names {named}, the model has {model.classes}; the names are not used")
    if model.doubts:
        told.append(f"not sure of the features: {'; '.join(model.doubts)}")
    if model.source.precision == "8 bits":
        told.append("weights of 8 bits are read as the numbers they stand for; activations are rounded as in the file")
    if model.source.settled is not None:
        told.append("logic that decides by the pixels was taken out of the graph before the network was read")
    if model.source.unconfined is not None:
        told.append(f"the process that read the file could not be kept from other files: {model.source.unconfined}")
    return told


def of_images(clean: CleanSet) -> ImageFacts:
    """What was read from the folder of images."""
    return ImageFacts(len(clean.images), clean.found, clean.labelled_by, clean.unreadable, clean.understood, clean.left_out)


def environment(precision: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What a reader needs to repeat the numbers."""
    return {
        "device": str(device),
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "kernels": described(device),
        "search precision": str(precision).removeprefix("torch."),
        "python": platform.python_version(),
        "banscan": __version__,
        **{name: metadata.version(name) for name in PACKAGES},
    }


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
