"""One scan from model file and images to a report."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from banscan import __version__, importers
from banscan.errors import EvidenceError
from banscan.importers import Parity, TracedModel
from banscan.kernels import backend
from banscan.scanner import calibration, verdict
from banscan.scanner.calibration import Calibration, Standing
from banscan.scanner.evidence import Evidence, Inputs, gather
from banscan.scanner.inputs import checks, images, preprocess
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.inputs.preprocess import Choice, Preprocess
from banscan.scanner.machine.device import find, repeatable
from banscan.scanner.machine.precision import search_dtype
from banscan.scanner.machine.progress import Progress
from banscan.scanner.pixel_evidence import PixelEvidence, gather_pixels
from banscan.scanner.search import mask
from banscan.scanner.search.noisy_model import attach, layers, measure
from banscan.scanner.search.pixel_model import pixel_model
from banscan.scanner.settings import Settings
from banscan.scanner.verdict import Verdict, inconclusive

PARITY_IMAGES = 64


@dataclass(frozen=True)
class MaskEffect:
    """What the negative mask (Eq. 6) adds: the masks' mean, shares [C] by a mask alone and under noise and mask, means over restarts."""

    size: float
    alone: Tensor
    with_noise: Tensor


@dataclass(frozen=True)
class Report:
    """Everything a scan found; fields are None where it stopped before them."""

    verdict: Verdict
    model: TracedModel
    settings: Settings
    clean: CleanSet
    choice: Choice | None
    parity: Parity | None
    accuracy: float | None
    confidence: float | None
    evidence: Evidence | None
    pixels: PixelEvidence | None
    mask: MaskEffect | None
    standing: Standing | None
    environment: dict[str, Any]
    seconds: dict[str, float]


@dataclass
class _Progressing:
    """What is known so far; a scan that stops early reports it."""

    choice: Choice | None = None
    parity: Parity | None = None
    accuracy: float | None = None
    confidence: float | None = None
    evidence: Evidence | None = None
    pixels: PixelEvidence | None = None
    mask: MaskEffect | None = None
    standing: Standing | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def scan(
    path: str | Path,
    clean_dir: str | Path,
    *,
    settings: Settings | None = None,
    preprocessing: Preprocess | None = None,
    names: Path | None = None,
    table: Path | None = None,
    size: int | None = None,
    limit: int = 500,
    precision: str = "auto",
    logits: str | None = None,
    against: Calibration | None = None,
    device: str = "auto",
    progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Scans one model for a backdoor.

    Args:
        path: a classifier as ONNX, TorchScript or torch.export archive.
        clean_dir: a folder of clean images, in class folders, flat, or labelled by `table`; see `images.load`.
        settings: of the search; None for the defaults.
        preprocessing: None to try the usual ones and take what the images support best.
        names, table, size, limit: as in `images.load`.
        precision: "float32", "bfloat16", or "auto" for bfloat16 in the search where it is fast. Final numbers are float32.
        logits: name of the output that holds them, for an ONNX file with several.
        device: "auto" for a GPU where there is one, "cpu", "cuda" or "cuda:N".
        against: scores of own clean models, which set the threshold; None for those that banscan ships.
        progress: called with stage name, work done and work in all.

    Raises:
        UsageError: a path, folder or setting that cannot be.
        ModelError: the file holds no image classifier.
    """
    settings = settings or Settings()
    if against is not None:
        against.check(settings)
    where = find(device)
    backend(where)  # a wrong BANSCAN_KERNELS is told before any work
    so_far = _Progressing()
    with so_far.stage("import"):
        progress("reading the model", 0, 1)
        model = importers.load(path, logits=logits)
        progress("reading the model", 1, 1)
    with so_far.stage("images"):
        progress("reading the images", 0, 1)
        clean = images.load(
            Path(clean_dir),
            model.input,
            model.classes,
            names=names,
            table=table,
            known=model.class_names,
            size=size,
            limit=limit,
            seed=settings.seed,
        )
        progress("reading the images", 1, 1)
    if model.input.height is None or model.input.width is None:
        with so_far.stage("import"):
            height, width = clean.images.shape[1:3]
            model = importers.load(path, (height, width), logits)
    importers.place(model, where)
    dtype = search_dtype(precision, where)
    try:
        with repeatable(where):
            result = _examine(model, clean, settings, preprocessing, dtype, against, so_far, progress)
    except EvidenceError as error:
        result = inconclusive(str(error))
    return Report(
        result,
        model,
        settings,
        clean,
        so_far.choice,
        so_far.parity,
        so_far.accuracy,
        so_far.confidence,
        so_far.evidence,
        so_far.pixels,
        so_far.mask,
        so_far.standing,
        environment(dtype, where),
        so_far.seconds,
    )


def _examine(
    model: TracedModel,
    clean: CleanSet,
    settings: Settings,
    preprocessing: Preprocess | None,
    dtype: torch.dtype,
    against: Calibration | None,
    so_far: _Progressing,
    progress: Progress,
) -> Verdict:
    checks.check_weights(model)
    with so_far.stage("preprocess"):
        if preprocessing is None:
            so_far.choice = preprocess.choose(model, clean.images, clean.labels)
        else:
            so_far.choice = Choice(preprocessing, "given", ())
        x = so_far.choice.preprocess(clean.images, model.input.layout)
        with torch.no_grad():
            logits = torch.cat([model.logits(part).cpu() for part in x.split(250)])
    with so_far.stage("parity"):
        so_far.parity = importers.parity(model, x[:: max(1, len(x) // PARITY_IMAGES)][:PARITY_IMAGES])
        if so_far.parity is not None:
            checks.check_parity(so_far.parity, model.source.precision)
    checks.check_logits(logits)
    predictions = logits.argmax(1)
    labels = predictions if clean.labels is None else clean.labels
    so_far.confidence = float(logits.softmax(1).max(1).values.mean())
    so_far.accuracy = None if clean.labels is None else float((predictions == labels).float().mean())
    checks.check_images(clean.different, len(labels.unique()), settings.min_images)
    checks.check_accuracy(so_far.accuracy, so_far.confidence, settings.min_accuracy, model.classes)
    with so_far.stage("statistics"):
        neurons = layers(model, settings.layers_without)
        if not neurons:
            raise EvidenceError("no layer of neurons lies below the classifier; a linear model has no place to look for a backdoor")
        stats = measure(model, neurons, x) if settings.noise == "normalised" else None
        exact = attach(model, neurons, stats)
        prepared = exact.prepare(x)
        quick, quickly = exact, prepared
        if dtype != torch.float32:
            quick = attach(model, neurons, stats, dtype)
            quickly = quick.prepare(x)
        inputs = Inputs(quick, exact, quickly, prepared, labels)
    with so_far.stage("noise"):
        so_far.evidence, features = gather(inputs, logits, settings, progress)
    with so_far.stage("mask"):
        so_far.mask = mask_effect(model, x, labels, features)
    if settings.pixels:
        with so_far.stage("pixels"):
            plain = pixel_model(model, so_far.choice.preprocess, dtype)
            so_far.pixels = gather_pixels(
                plain, plain.pixels(x.to(model.device)), labels, logits, so_far.evidence.targets, settings, progress
            )
            checks.check_finite(so_far.pixels.largest)
    result = verdict.judge(so_far.evidence, so_far.pixels, None if against is None else against.limit)
    if result.score is None:
        return result
    known = against or calibration.shipped()
    so_far.standing = calibration.standing(known, calibration.kind_of(model, clean), result.score, settings)
    return result if so_far.standing.uncovered is None else verdict.uncovered(result, so_far.standing.uncovered)


def mask_effect(model: TracedModel, x: Tensor, labels: Tensor, noisy: Tensor) -> MaskEffect:
    """Eq. 5 on cached clean features, a mask per restart; Eq. 6 on features [K, N, ...] under untargeted noise."""
    trunk, head = model.split(model.features)
    with torch.no_grad():
        features = torch.cat([trunk(part.to(model.device)) for part in x.split(250)])
    labels = labels.to(model.device)
    learnt = [mask.learn(head, features, labels, seed=k) for k in range(len(noisy))]
    alone = torch.stack([mask.negative_shares(head, features, m, model.classes) for m in learnt])
    noised = torch.stack([mask.negative_shares(head, f.float(), m, model.classes) for f, m in zip(noisy, learnt, strict=True)])
    return MaskEffect(float(torch.stack(learnt).mean()), alone.mean(0), noised.mean(0))


def environment(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What a reader needs to repeat the numbers."""
    packages = ("torch", "onnx", "onnxruntime", "numpy")
    return {
        "device": str(device),
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "kernels": backend(device),
        "search precision": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "banscan": __version__,
        **{name: metadata.version(name) for name in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
