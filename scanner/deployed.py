"""A scan of what would be deployed: the file in another precision, beside the file as it is."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from banscan.importers.deploy import check, deploy
from banscan.scanner import probability, verdict
from banscan.scanner.aside import shares
from banscan.scanner.findings import Deployed, Peak, Report
from banscan.scanner.inputs import preprocess
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.machine import allocator
from banscan.scanner.machine.progress import Progress, of_part, silent
from banscan.scanner.places import place
from banscan.scanner.scan import examine
from banscan.scanner.settings import Options, Settings


def scan_deployed(
    path: str | Path,
    clean_dir: str | Path,
    kind: str,
    *,
    settings: Settings | None = None,
    options: Options | None = None,
    progress: Progress = silent,
    **others: Any,
) -> Report:
    """Scans the file as it would be deployed, and as it is.

    A backdoor may be made to wake up only when the weights are rounded (arXiv 2108.09187), so the verdict is the worse of the two. What was
    measured is that of the file as it would be deployed; `Report.deployed` says what the other showed and how their answers differ.

    Args:
        kind: one of `settings.DEPLOYMENTS`; int8 is quantised with these images.
        others: as of `scan`, with all other arguments and errors.

    Raises:
        UsageError: a format that nothing converts; told before anything else is read.
        ModelError: the file cannot be converted.
    """
    with place.local(path) as model:
        done = _both(model.path, clean_dir, kind, settings=settings, options=options, progress=progress, **others)
    # not before the models and their images are gone
    allocator.give_back()
    return model.named(done)


def _both(
    path: Path, clean_dir: str | Path, kind: str, *, settings: Settings | None, options: Options | None, progress: Progress, **others: Any
) -> Report:
    """The file as it would be deployed, and as it is."""
    if path.is_file():
        check(path, kind)
    options = options or Options()
    progress = of_part(progress)
    plain = examine(path, clean_dir, settings=settings, options=options, progress=progress, **others)
    model = plain.model
    if model is None or plain.preprocess is None:
        return plain.report
    x = plain.preprocess(plain.clean.images, model.input.layout)
    model.to(torch.device("cpu"))
    with tempfile.TemporaryDirectory(prefix="banscan-") as folder:
        file = Path(folder) / path.name
        file.write_bytes(deploy(model, kind, x))
        same = replace(options, **_given(plain.preprocess))
        made = examine(file, clean_dir, settings=settings, options=same, progress=progress, **others)
        if made.model is None:
            return made.report
        made.model.to(torch.device("cpu"))
        answers = [preprocess.answers(m, plain.preprocess, plain.clean.images).argmax(1) for m in (model, made.model)]
    return joined(plain.report, made.report, compared(kind, plain.report, made.report, answers))


def _given(chosen: Preprocess) -> dict[str, Any]:
    """The options that ask for a preprocessing."""
    return {"preprocess": "unit", "mean": chosen.mean, "std": chosen.std, "scale": chosen.scale, "bgr": chosen.bgr}


def compared(kind: str, plain: Report, made: Report, predictions: list[Tensor]) -> Deployed:
    """How the two files' answers [N] to the clean images differ."""
    before, after = predictions
    changed = after[before != after]
    gained = shares(changed, plain.model.classes) if len(changed) else torch.zeros(plain.model.classes)
    most = int(gained.argmax())
    own = plain.verdict
    return Deployed(
        kind=kind,
        precision=made.model.precision,
        agreement=1 - len(changed) / len(before),
        gains=Peak(most, float(gained[most]) * len(changed) / len(before)),
        outcome=own.outcome,
        reason=own.reason,
        targets=own.targets,
        score=own.score,
    )


def joined(plain: Report, made: Report, found: Deployed) -> Report:
    """One report of both: what was measured on the file as it would be deployed, and the worse of the two verdicts."""
    model = replace(made.model, path=plain.model.path, sha256=plain.model.sha256)
    decided = made.verdict
    if verdict.GRAVITY[plain.verdict.outcome] > verdict.GRAVITY[decided.outcome]:
        decided = replace(plain.verdict, reason=f"as it is in the file: {plain.verdict.reason}")
    elif verdict.GRAVITY[plain.verdict.outcome] < verdict.GRAVITY[decided.outcome]:
        decided = replace(decided, reason=f"only as {found.kind}: {decided.reason}")
    seconds = {name: plain.seconds.get(name, 0.0) + made.seconds.get(name, 0.0) for name in (plain.seconds | made.seconds)}
    memory = {name: max(plain.memory.get(name, 0), made.memory.get(name, 0)) for name in (plain.memory | made.memory)}
    both = replace(made, model=model, verdict=decided, deployed=found, preprocess=plain.preprocess, seconds=seconds, memory=memory)
    return probability.of_its_verdict(both, made.verdict.outcome)
