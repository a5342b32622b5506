"""One repair from a flagged model file to a file of the same format without the backdoor: scan, tune, write, compare, scan again."""

from dataclasses import replace
from pathlib import Path

from banscan import files, importers
from banscan.errors import UsageError
from banscan.importers import writer
from banscan.importers.normal import weights
from banscan.importers.normal.attention import attends
from banscan.scanner import logic
from banscan.scanner.inputs import images, kept
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.machine import memory
from banscan.scanner.machine.progress import Progress, of_part, silent
from banscan.scanner.places import place
from banscan.scanner.places.place import Local
from banscan.scanner.repair.job import preprocess_of
from banscan.scanner.repair.mend import OnEpoch, mend, unheard
from banscan.scanner.repair.result import Repair
from banscan.scanner.repair.settings import RepairSettings
from banscan.scanner.scan import Examined, examine, scan
from banscan.scanner.settings import Options, Settings

__all__ = ["Repair", "repair"]

FLAGGED = ("backdoored", "suspicious")


def repair(
    path: str | Path,
    clean_dir: str | Path,
    output: str | Path,
    *,
    tuning: RepairSettings | None = None,
    settings: Settings | None = None,
    options: Options | None = None,
    progress: Progress = silent,
    on_epoch: OnEpoch = unheard,
) -> Repair:
    """Takes a backdoor out by fine-tuning on clean images against neuron noise (Eq. 8) and writes the model to `output`.

    Args:
        path: an ONNX or TorchScript classifier, or a name of one as in `scan`; the written file is this one with other weights.
        clean_dir: clean images as in `scan`; a fifth of them is kept from the tuning to measure on.
        tuning: how the backdoor is taken out; None for the defaults.
        settings, options: of both scans, as in `scan`; the tuning reads images like them, and draws from the same seed.
        progress: called with stage name, work done and work in all.
        on_epoch: called after every epoch with its number, the losses on clean images and under noise (NaN where there is none), and the
            accuracy on the images kept.

    Raises:
        UsageError: paths or settings that cannot be, or a model that is not flagged.
        ModelError: the file cannot be read, or its weights cannot be written back.
        EvidenceError: too few images, or more accuracy lost than `tuning` allows; nothing was written.

    Example:
        >>> done = repair("model.onnx", "imgs/", "fixed.onnx", tuning=RepairSettings(epochs=10))
        >>> done.after.verdict.outcome, done.mended.accuracy
    """
    tuning, settings, options = tuning or RepairSettings(), settings or Settings(), options or Options()
    with place.local(path) as model:
        return _repaired(model, Path(clean_dir), Path(output), tuning, settings, options, progress, on_epoch)


def _repaired(
    given: Local,
    clean_dir: Path,
    output: Path,
    tuning: RepairSettings,
    settings: Settings,
    options: Options,
    progress: Progress,
    on_epoch: OnEpoch,
) -> Repair:
    path = given.path
    files.check(output)
    kept.check(output, (path, options.labels, options.classes), (clean_dir,), beside=True)
    _check_model(path, output, tuning, options)
    before = examine(path, clean_dir, settings=settings, options=options, progress=of_part(progress))
    _check_verdict(before, tuning)
    assert before.model is not None  # it was read before the scan
    clean = _images(before, clean_dir, replace(options, max_images=tuning.tune_images))
    how, most = tuning.tuning(settings.seed), tuning.max_accuracy_drop
    with memory.bounded(options.room):
        mended = mend(before, clean, output, method=tuning.method, how=how, max_drop=most, progress=progress, on_epoch=on_epoch)
    after = scan(output, clean_dir, settings=settings, options=options, progress=of_part(progress))
    return Repair(mended, given.named(before.report), after, attends(before.model.module))


def _check_model(path: Path, output: Path, tuning: RepairSettings, options: Options) -> None:
    """Raises ModelError for a model that cannot be written back, UsageError for a name of another format, before it is scanned."""
    model = importers.load(path, options.sides, options.logits)
    writer.check_name(model, output)
    writer.check_writable(model, dequantise=tuning.dequantize)
    weights.check_invertible(model)


def _check_verdict(examined: Examined, tuning: RepairSettings) -> None:
    """Raises EvidenceError for a model that cannot be tuned, UsageError for one that need not be."""
    logic.check(examined.report.structure, examined.report.model.path)
    preprocess_of(examined)
    verdict, path = examined.report.verdict, examined.report.model.path
    if not tuning.force and verdict.outcome not in FLAGGED:
        why = verdict.reason if verdict.outcome == "inconclusive" else verdict.outcome
        raise UsageError(f"{path}: not flagged ({why}); repair costs accuracy, so give --force to repair it all the same")


def _images(examined: Examined, folder: Path, options: Options) -> CleanSet:
    """The images to tune on: as for the scan, but more of them."""
    model = examined.model
    assert model is not None
    return images.load(folder, model.input, model.classes, options, known=model.class_names)
