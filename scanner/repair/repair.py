"""One repair from a flagged model file to a file of the same format without the backdoor: scan, tune, write, compare, scan again."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from banscan import importers
from banscan.errors import BanscanError, EvidenceError, UsageError
from banscan.files import whole
from banscan.importers import Parity, TracedModel, writer
from banscan.importers.normal import weights
from banscan.scanner.inputs import checks, images
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.machine.device import repeatable
from banscan.scanner.machine.progress import Counter, Progress
from banscan.scanner.repair import answers, patch_pool, trainable, tuning
from banscan.scanner.repair.settings import METHODS, Tuning, plain, unguided
from banscan.scanner.repair.trainable import State
from banscan.scanner.scan import PARITY_IMAGES, Report, scan
from banscan.scanner.search import patch, pixel_model
from banscan.scanner.search.patch import Patches

# epoch, loss on clean images and under noise (NaN where there is none), accuracy on the images kept
Told = Callable[[int, float, float, float], None]
# every so many images of a class is kept from the tuning, to measure on
HELD = 5
# mirroring is suited to data whose mirror images the model knows nearly as well
MIRRORED = 0.02


@dataclass(frozen=True)
class Mended:
    """What the tuning did.

    Attributes:
        tuned, held: images tuned on, and images kept from it to measure on.
        accuracy: the benign accuracy on those, before and after.
        losses: per epoch, on clean images and under noise (NaN where there is none).
        parity: of the written file under its own runtime with the tuned graph.
    """

    output: Path
    method: str
    settings: Tuning
    tuned: int
    held: int
    accuracy: tuple[float, float]
    losses: tuple[tuple[float, float], ...]
    parity: Parity


@dataclass(frozen=True)
class Repair:
    """What a repair did, and the proof of it: the scans of the file that was given and of the one that was written."""

    mended: Mended
    before: Report
    after: Report


def repair(
    path: str | Path,
    clean_dir: str | Path,
    output: str | Path,
    *,
    method: str = "ban",
    how: Tuning | None = None,
    max_drop: float = 0.05,
    most: int = 5000,
    force: bool = False,
    dequantise: bool = False,
    progress: Progress = lambda stage, done, total: None,
    told: Told = lambda epoch, clean, noisy, accuracy: None,
    **options: Any,
) -> Repair:
    """Takes a backdoor out by fine-tuning on clean images against neuron noise (Eq. 8) and writes the model to `output`.

    Args:
        path: an ONNX or TorchScript classifier; the written file is this one with other values in its weights.
        clean_dir: clean images as in `scan`; a fifth of them is kept from the tuning to measure on.
        method: "ban", "finetune" for lambda_2 = 0, or "anp" for adversarial neuron pruning (Wu and Wang, NeurIPS 2021).
        how: settings of the tuning; None for those of the method.
        max_drop: the loss of benign accuracy, on the images kept, above which nothing is written.
        most: tune on at most so many images.
        force: repair a model that the scan does not flag.
        dequantise: write a float32 model for one of 8 bits.
        told: called after every epoch with its number, the losses on clean images and under noise, and the accuracy on the images kept.
        options: those of `scan`.

    Raises:
        UsageError: paths or settings that cannot be, or a model that is not flagged.
        ModelError: the file cannot be read, or its weights cannot be written back.
        EvidenceError: too few images, or more accuracy lost than `max_drop`; nothing was written.
    """
    path, output = Path(path), Path(output)
    how = _settings(method, how)
    if not 0 <= max_drop <= 1:
        raise UsageError(f"--max-accuracy-drop {max_drop:g}: expected a share of the images, from 0 to 1")
    _check_paths(path, output)
    model = importers.load(path, logits=options.get("logits"))
    writer.check_writable(model, dequantise=dequantise)
    weights.check_invertible(model)
    before = scan(path, clean_dir, progress=progress, **options)
    why = before.verdict.reason if before.verdict.outcome == "inconclusive" else before.verdict.outcome
    if before.choice is None:
        raise EvidenceError(f"{path}: cannot be tuned ({why})")
    if not force and before.verdict.outcome not in ("backdoored", "suspicious"):
        raise UsageError(f"{path}: not flagged ({why}); repair costs accuracy, so give --force to repair it all the same")
    chosen = {key: options[key] for key in ("names", "table") if key in options}
    clean = images.load(Path(clean_dir), before.model.input, before.model.classes, known=before.model.class_names, limit=most, **chosen)
    mended = mend(before, clean, output, method=method, how=how, max_drop=max_drop, progress=progress, told=told)
    return Repair(mended, before, scan(output, clean_dir, progress=progress, **options))


def mend(
    before: Report,
    clean: CleanSet,
    output: Path,
    *,
    method: str,
    how: Tuning | None = None,
    max_drop: float,
    progress: Progress = lambda stage, done, total: None,
    told: Told = lambda epoch, clean, noisy, accuracy: None,
) -> Mended:
    """The tuning and the writing, for a model that was scanned and can be written; arguments and errors are those of `repair`.

    Runs on the device of the scan. With "ban", the noise pulls the images where the scan says that a trigger sends them. Where it says
    nothing, noise raises the loss (Eq. 4) and the settings are those of `settings.unguided`, as always with "anp".
    """
    model, how = before.model, _settings(method, how)
    assert before.choice is not None
    x = before.choice.preprocess(clean.images, model.input.layout)
    limits = pixel_model.limits(model, before.choice.preprocess)
    y = answers.predictions(model, {}, x) if clean.labels is None else clean.labels
    kept = _kept(y)
    seen, labels = x[~kept], y[~kept]
    checks.check_images(len(seen), len(labels.unique()), before.settings.min_images)
    how = replace(how, flip=_mirrors(model, seen, labels))
    aims = None if method == "anp" else _aims(before)
    if aims is None:
        how = unguided(how)
    checkpoint = output.with_name(f"{output.name}.partial")
    key = _key(model, method, how, aims, y, clean)

    def begin() -> State:
        return trainable.start(model, seen, depth=how.depth, masked=method == "anp")

    with repeatable(model.device):
        victims = None
        if how.weight and how.patches and aims is not None:
            victims = patch_pool.victims_of(model, before.choice.preprocess, seen, labels, aims)
        state, losses = _resume(checkpoint, key, begin, model.device)
        while state.epoch < how.epochs:
            pasted = None
            if victims is not None:
                now = partial(answers.logits, model, trainable.finished(model, state, seen))
                state.patches = patch_pool.followed(victims, now, state.patches, how.seed + state.epoch)
                pasted = patch.changes(victims.view, victims.pixels, state.patches)
            counter = Counter(progress, f"epoch {state.epoch + 1} of {how.epochs}", len(seen))
            losses.append(tuning.epoch(model, state, seen, labels, how, limits=limits, aims=aims, pasted=pasted, progress=counter))
            told(state.epoch, *losses[-1], answers.accuracy_so_far(model, state, x[kept], y[kept]))
            _keep(checkpoint, key, state, losses)
        tuned = trainable.finished(model, state, seen)
        first, last = (answers.accuracy(model, w, x[kept], y[kept]) for w in ({}, tuned))
    if not first - last <= max_drop:
        checkpoint.unlink(missing_ok=True)
        raise EvidenceError(
            f"{model.source.path}: the benign accuracy fell from {first:.1%} to {last:.1%} on {int(kept.sum())} images kept from the "
            f"tuning, more than --max-accuracy-drop {max_drop:g} allows; nothing was written"
        )
    parity = _write(model, tuned, output, x)
    checkpoint.unlink(missing_ok=True)
    return Mended(output, method, how, len(seen), int(kept.sum()), (first, last), tuple(losses), parity)


def _settings(method: str, settings: Tuning | None) -> Tuning:
    if method not in METHODS:
        raise UsageError(f"--method {method}: unknown; expected {', '.join(METHODS)}")
    given = settings or METHODS[method]
    return given if given.weight and method != "finetune" else plain(given)


def _check_paths(path: Path, output: Path) -> None:
    if output.is_dir() or not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise UsageError(f"{output}: cannot be written; expected a file in a folder that exists and may be written to")
    if output.exists() and path.exists() and output.samefile(path):
        raise UsageError(f"{output}: is the model itself; give the repaired one another name")


def _aims(report: Report) -> Tensor | None:
    """Where the scan says that a trigger sends the images of each class [classes]; None where it says nothing of it.

    Several targets take turns.
    """
    verdict = report.verdict
    if verdict.kind == "all-to-one" and verdict.named:
        targets = torch.tensor(verdict.named)
        return targets[torch.arange(report.model.classes) % len(targets)]
    return torch.tensor([attacked for _, attacked in verdict.mapping]) if verdict.mapping else None


def _kept(labels: Tensor) -> Tensor:
    """True for every fifth image of a class: those that the tuning does not see."""
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels.unique():
        kept[(labels == c).nonzero()[HELD // 2 :: HELD, 0]] = True
    return kept


def _mirrors(model: TracedModel, images: Tensor, labels: Tensor) -> bool:
    """Whether the model knows mirror images as well, as of most data but signs and text."""
    axis = 3 if model.input.layout == "NCHW" else 2
    own, mirrored = (answers.accuracy(model, {}, x, labels) for x in (images, images.flip(axis)))
    return mirrored >= own - MIRRORED


def _write(model: TracedModel, values: dict[str, Tensor], output: Path, x: Tensor) -> Parity:
    """Writes, reads again and compares with the tuned graph; only a file that agrees gets its name."""
    height, width = x.shape[2:4] if model.input.layout == "NCHW" else x.shape[1:3]
    shown = x[:PARITY_IMAGES]
    with whole(output) as place:
        writer.write(model, {name: value.cpu() for name, value in values.items()}, place)
        written = importers.load(place, (height, width), model.source.output)
        own = importers.parity(written, shown)
        with torch.no_grad():
            tuned, read = answers.logits(model, values, shown).cpu(), written.logits(shown)
        difference = float((tuned - read).norm() / tuned.norm())
        if own is None or not max(own.rms, difference) <= checks.PARITY[written.source.precision]:
            raise BanscanError(
                f"{output}: the written file would differ from the tuned model by {difference:.1e} relative RMS; nothing was written"
            )
    return own


def _key(model: TracedModel, method: str, settings: Tuning, aims: Tensor | None, labels: Tensor, clean: CleanSet) -> str:
    """What a checkpoint must agree on to be gone on from."""
    seen = hashlib.sha256(clean.images.tobytes() + labels.numpy().tobytes()).hexdigest()
    return json.dumps([model.source.sha256, method, asdict(settings), None if aims is None else aims.tolist(), seen])


def _keep(path: Path, key: str, state: State, losses: list[tuple[float, float]]) -> None:
    """The state after an epoch, under its name when it is whole."""
    arrays = {"key": np.array(key), "losses": np.array(losses)}
    arrays |= {f"values/{name}": value.numpy(force=True) for name, value in state.values.items()}
    arrays |= {f"momenta/{name}": value.numpy(force=True) for name, value in state.momenta.items()}
    arrays |= {} if state.pixels is None else {"pixels": state.pixels.numpy(force=True)}
    arrays |= {} if state.patches is None else {f"patches/{f.name}": getattr(state.patches, f.name).numpy() for f in fields(Patches)}
    with whole(path) as place, place.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _resume(path: Path, key: str, begin: Callable[[], State], where: torch.device) -> tuple[State, list[tuple[float, float]]]:
    """Where an earlier run of the same repair stopped, or the start."""
    if not path.exists():
        return begin(), []
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            own = str(data["key"])
            arrays = {name: torch.from_numpy(data[name]) for name in data.files if name != "key"}
        losses = [(float(a), float(b)) for a, b in arrays.pop("losses")]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UsageError(f"{path}: not the checkpoint of a repair ({error}); remove it") from error
    if own != key:
        raise UsageError(
            f"{path}: left by a repair of another model, or with other images or settings; finish that one, or remove the file"
        )

    def named(kind: str) -> dict[str, Tensor]:
        return {name.removeprefix(kind): value for name, value in arrays.items() if name.startswith(kind)}

    patches = named("patches/")
    values, momenta = ({name: value.to(where) for name, value in named(kind).items()} for kind in ("values/", "momenta/"))
    noise = arrays["pixels"].to(where) if "pixels" in arrays else None
    return State(values, momenta, len(losses), noise, Patches(**patches) if patches else None), losses
