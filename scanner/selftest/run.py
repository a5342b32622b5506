"""The self-test: a trigger is planted into the shipped network, the scan has to find it and the repair to take it out, with the numbers
that were measured elsewhere.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from banscan import importers
from banscan.errors import BanscanError, UsageError
from banscan.importers import TracedModel
from banscan.scanner.findings import Report
from banscan.scanner.machine.device import find, repeatable
from banscan.scanner.machine.progress import Progress, silent
from banscan.scanner.repair.repair import repair
from banscan.scanner.repair.settings import RepairSettings
from banscan.scanner.selftest import network, pictures
from banscan.scanner.settings import Options, Settings

SCHEMA = "banscan-selftest/1"
REFERENCE = "reference.json"
# images of the scan, of the planting, and those that accuracy and ASR are measured on, with their seeds
SCANNED, PLANTED, HELD = (360, 1), (600, 2), (600, 3)
EPOCHS = 15
# of the scan before the repair, what is compared
CRITERIA = ("noise", "logit", "margin", "perturbation", "patch", "patch share")


@dataclass(frozen=True)
class Compared:
    """One thing that was measured, and the reference for it.

    Attributes:
        value: a share, a score or a verdict; None where it was not measured.
        tolerance: how far from the reference a number may be on this device; None for what has to be the same.
    """

    name: str
    value: float | str | None
    reference: float | str
    tolerance: float | None

    @property
    def good(self) -> bool:
        """Whether it is the reference."""
        if self.tolerance is None or isinstance(self.value, str) or isinstance(self.reference, str):
            return self.value == self.reference
        return self.value is not None and abs(self.value - self.reference) <= self.tolerance


@dataclass(frozen=True)
class Selftest:
    """What a self-test measured, and on what: `environment` is that of the scan."""

    compared: tuple[Compared, ...]
    environment: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether this installation gives the reference numbers."""
        return all(one.good for one in self.compared)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        rows = [asdict(one) | {"good": one.good} for one in self.compared]
        return {"schema": SCHEMA, "passed": self.passed, "compared": rows, "environment": self.environment}


def run(options: Options | None = None, progress: Progress = silent) -> Selftest:
    """Plants, scans, repairs and compares; half a minute of processor time.

    Args:
        options: `device`, `precision` and `threads`; the others are those of the test.
        progress: called with stage name, work done and work in all.

    Raises:
        UsageError: there is no such device.
        BanscanError: some part failed altogether; the sentence says which.
    """
    options = options or Options()
    where = find(options.device)
    try:
        measured, environment = measure(options, progress)
    except UsageError:
        raise
    except BanscanError as error:
        raise BanscanError(f"selftest: {error}") from error
    return Selftest(compare(measured, where.type), environment)


def measure(options: Options, progress: Progress = silent) -> tuple[dict[str, float | str | None], dict[str, Any]]:
    """What the self-test measures, by name, and on what."""
    options = replace(Options(), device=options.device, precision=options.precision, threads=options.threads, preprocess="unit")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    where = find(options.device)
    (scanned, labels), (shown, theirs), held = (pictures.drawn(*which) for which in (SCANNED, PLANTED, HELD))
    clean = network.shipped()
    progress("planting a trigger", 0, 1)
    planted = network.planted(clean, shown, theirs)
    progress("planting a trigger", 1, 1)
    with tempfile.TemporaryDirectory(prefix="banscan-") as place:
        folder = Path(place)
        images, files = folder / "images", [folder / f"{name}.onnx" for name in ("clean", "backdoored", "repaired")]
        images.mkdir()
        pictures.write(images, scanned, labels)
        for file, weights in zip(files, (clean, planted), strict=False):
            network.write(file, weights)
        tuning, settings = RepairSettings(epochs=EPOCHS, force=True), Settings(effort="thorough")
        done = repair(files[1], images, files[2], tuning=tuning, settings=settings, options=options, progress=progress)
        models = [importers.load(file) for file in files]
    with repeatable(where):
        for model in models:
            model.to(where)
        answers = network.logits(clean, network.as_input(held[0]))
        difference = (_logits(models[0], held[0]) - answers).norm() / answers.norm()
        shares = [_shares(model, *held) for model in models]
    before, after = done.before, done.after
    measured: dict[str, float | str | None] = {
        "relative error of the logits": float(difference),
        "accuracy, clean": shares[0][0],
        "accuracy, backdoored": shares[1][0],
        "accuracy, repaired": shares[2][0],
        "ASR, clean": shares[0][1],
        "ASR, backdoored": shares[1][1],
        "ASR, repaired": shares[2][1],
        "verdict, backdoored": _verdict(before),
        "verdict, repaired": _verdict(after),
        "score, backdoored": before.verdict.score,
    }
    return measured | {name: _value(before, name) for name in CRITERIA}, before.environment


def compare(measured: Mapping[str, float | str | None], device: str) -> tuple[Compared, ...]:
    """Each with its reference, and the tolerance for this kind of device ("cpu" or "cuda")."""
    document = json.loads(resources.files(__package__).joinpath(REFERENCE).read_text(encoding="utf-8"))
    return tuple(Compared(name, measured.get(name), row["value"], row.get(device)) for name, row in document["numbers"].items())


@torch.no_grad()
def _logits(model: TracedModel, images: np.ndarray) -> torch.Tensor:
    """Logits [N, CLASSES] in float64 on the CPU, as the device computes them, of images uint8 [N, H, W, 3]."""
    result: torch.Tensor = model.module(network.as_input(images).float().to(model.device))
    return result.double().cpu()


def _shares(model: TracedModel, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The accuracy on images [N, H, W, 3] with labels [N], and the ASR on those of other classes than the target."""
    others = labels != network.TARGET
    right = _logits(model, images).argmax(1).numpy() == labels
    moved = _logits(model, pictures.stamped(images[others])).argmax(1).numpy() == network.TARGET
    return float(right.mean()), float(moved.mean())


def _verdict(report: Report) -> str:
    verdict = report.verdict
    return ", ".join((verdict.outcome, *(f"class {target}" for target in verdict.targets)))


def _value(report: Report, criterion: str) -> float | None:
    return next((f.value for f in report.findings if f.criterion == criterion), None)
