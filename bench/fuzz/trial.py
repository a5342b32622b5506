"""What banscan makes of one mutant: refused in a sentence, read as its own runtime computes it, or one of the outcomes that must not be."""

from pathlib import Path

import numpy as np
import torch

from banscan.errors import BanscanError
from banscan.importers import carried, formats, reading
from banscan.importers.model import Input
from banscan.importers.parity import compared
from banscan.scanner.inputs import checks, images
from banscan.scanner.settings import Options
from bench.fuzz.files import CLASSES, SIZE

# outcomes of a sound reader
REFUSED, READ, UNCOMPARED, TOLD = "refused", "read", "read, its runtime refuses it", "differs, and the scan says so"
# those that must not be
FAULT, UNNOTICED, CRASH, HANG = "error of ours", "differs unnoticed", "crash", "no answer in 20 s"
FAULTS = (FAULT, UNNOTICED, CRASH, HANG)


def outcome(kind: str, path: Path) -> tuple[str, str]:
    """The outcome for a file of this kind, and what was said."""
    try:
        return (_model if kind in ("onnx", "script", "pt2") else _beside)(path)
    except BanscanError as error:
        text = str(error)
        sound = "\n" not in text.strip() and text.strip() != ""
        return (REFUSED, text) if sound else (FAULT, f"no sentence: {text!r}")
    except MemoryError:
        return REFUSED, "more memory than allowed"
    except Exception as error:
        if any(told in str(error) for told in ("can't allocate memory", "bad_alloc")):
            return REFUSED, "more memory than allowed"
        return FAULT, f"{type(error).__name__}: {error}"


def _model(path: Path) -> tuple[str, str]:
    model = carried.restored(carried.plain(reading.read(path, (SIZE, SIZE), None)), path)
    run = formats.of(model.source).run
    shape = model.input.example().shape[1:]
    generator = torch.Generator().manual_seed(0)
    seen, other = torch.rand(12, *shape, generator=generator), 3 * torch.randn(12, *shape, generator=generator)
    answers = [model.logits(x) for x in (seen, other)]
    if run is None:
        return READ, ""
    differences = []
    for x, logits in zip((seen, other), answers, strict=True):
        try:
            theirs = np.moveaxis(run(model.source, x.numpy()), model.output_axis, 0)
        except Exception as error:  # runtimes have errors of their own
            return UNCOMPARED, str(error)[:200]
        ours = model.outputs(logits[: len(theirs)]).movedim(model.output_axis, 0).numpy().reshape(theirs.shape)
        if not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
            differences.append(np.inf)
        else:  # what is not finite in both, a scan refuses
            differences.append(compared(model, logits, theirs).rms if np.isfinite(theirs).all() else 0.0)
    limit = checks.PARITY[model.source.precision]
    if not differences[0] <= limit:
        return TOLD, f"{differences[0]:.1e}"
    return (UNNOTICED, f"{differences}") if differences[1] > 10 * limit else (READ, "")


def _beside(path: Path) -> tuple[str, str]:
    """An image among intact ones, a table of labels, or names of the classes."""
    spec = Input("image", "NCHW", 3, SIZE, SIZE)
    options = Options(labels=path if path.name.startswith("table") else None, classes=path if path.name.startswith("names") else None)
    folder = path.parent if path.name.startswith("image") else path.parent / "images"
    read = images.load(folder, spec, CLASSES, options)
    return READ, read.labelled_by
