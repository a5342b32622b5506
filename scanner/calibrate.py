"""Scans clean models one by one into a calibration; what is done already is kept beside the output until all are."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from banscan.errors import ModelError, UsageError
from banscan.files import check, check_folder, unwritable, whole
from banscan.importers import FORMATS
from banscan.importers.digest import identity
from banscan.scanner.calibration import ALPHA, LARGEST, Calibration, Entry, decisive, read_entry, render, threshold, version
from banscan.scanner.findings import Report
from banscan.scanner.inputs import kept
from banscan.scanner.inputs.given import MODELS
from banscan.scanner.machine.progress import Progress, of_part, silent
from banscan.scanner.request import deciding
from banscan.scanner.scan import scan
from banscan.scanner.settings import Options, Settings

SUFFIXES = frozenset(suffix for format_ in FORMATS for suffix in format_.suffixes)
# called for every model: its file, its report (None where an earlier run scanned it), its entry (None where it is left out), why it is
OnModel = Callable[[Path, Report | None, Entry | None, str], None]


def calibrate(
    models: str | Path,
    clean_dir: str | Path,
    output: str | Path | None = None,
    *,
    alpha: float = ALPHA,
    settings: Settings | None = None,
    options: Options | None = None,
    on_model: OnModel = lambda path, report, entry, why: None,
    progress: Progress = silent,
) -> Calibration:
    """Scans every model file of a folder that holds clean models, for a threshold of one's own.

    A model is called backdoored where it scores above the k-th largest of these scores, k = floor(alpha (n + 1)) of n models, so that a
    further clean one is called so with a probability of at most alpha (split conformal prediction; Vovk et al., 2005).

    Args:
        models: a folder of classifiers known to be clean, of the kind that will be scanned.
        clean_dir: clean images as in `scan`.
        output: the file for the calibration; what is done is kept beside it until all are, so that a second call goes on from there. None
            to keep nothing.
        alpha: the false-positive rate to keep, above 0 and below 1; at least 1 / alpha - 1 models must be left.
        settings, options, progress: as in `scan`; later scans need the same settings.
        on_model: called after every model with its file, its report (None where an earlier run scanned it), its entry (None where it is
            left out), and why it is.

    Raises:
        UsageError: too few models, paths or settings that cannot be.

    Example:
        >>> own = calibrate("known-good/", "imgs/", "own.json")
        >>> scan("model.onnx", "imgs/", against=own).verdict.outcome
    """
    # scores are asked for, and no verdicts
    models, settings, options = Path(models), replace(settings or Settings(), controls=False), options or Options()
    output = None if output is None else Path(output)
    partial = None if output is None else output.with_name(f"{output.name}.partial")
    if output is not None:
        check(output)
    kept.check(output, (options.labels, options.classes), (Path(clean_dir), models), beside=True)
    check_folder(models, MODELS)
    files = sorted(p for p in models.glob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"{models}: no model files in it; {MODELS} ({', '.join(sorted(SUFFIXES))})")
    threshold([0.0] * len(files), alpha)  # too few are told before any work
    stamp = {"clean_dir": str(Path(clean_dir).resolve()), "settings": decisive(settings), "seed": settings.seed, "banscan": version()}
    stamp |= {"options": deciding(options)}
    done = {} if partial is None else dict(_finished(partial, stamp))
    entries, images = list[Entry](), 0
    for path in files:
        digest = identity(path)
        twin = next((e.name for e in entries if e.sha256 == digest or Path(e.name).stem == path.stem), None)
        if twin is not None:  # counted twice, a model would vouch for itself
            on_model(path, None, None, f"the same model as {twin}")
            continue
        if digest in done:
            entry, images = done[digest]
            on_model(path, None, entry, "")
        else:
            scanned = _scan(path, clean_dir, settings, options, on_model, progress)
            if scanned is None:
                continue
            entry, images = scanned
            if partial is not None:
                _keep(partial, {**stamp, "images": images, "entry": asdict(entry)})
        entries.append(entry)
    threshold([e.score for e in entries], alpha)
    found = Calibration(tuple(entries), alpha, decisive(settings), images, version(), output)
    if output is not None and partial is not None:
        with whole(output) as place:
            place.write_text(render(found), encoding="utf-8")
        partial.unlink(missing_ok=True)
    return found


def _scan(
    path: Path, clean_dir: str | Path, settings: Settings, options: Options, on_model: OnModel, progress: Progress
) -> tuple[Entry, int] | None:
    try:
        report = scan(path, clean_dir, settings=settings, options=options, progress=of_part(progress))
    except ModelError as error:
        on_model(path, None, None, str(error))
        return None
    score = report.verdict.score
    if score is None or report.kind is None:
        on_model(path, report, None, report.verdict.reason)
        return None
    entry = Entry(path.name, report.model.sha256, report.kind, score)
    on_model(path, report, entry, "")
    return entry, report.images.used


def _finished(partial: Path, stamp: dict[str, Any]) -> Iterator[tuple[str, tuple[Entry, int]]]:
    """Entries of an earlier run with the same stamp; a last line that was cut off is taken out and computed again.

    Raises:
        UsageError: the file is none that an earlier run left.
    """
    if not os.path.lexists(partial):
        return
    try:
        if not os.path.isfile(partial) or partial.stat().st_size > LARGEST:
            raise ValueError("none of banscan's")
        with partial.open("r+b") as file:
            lines = file.read().splitlines(keepends=True)
            if lines and not lines[-1].endswith(b"\n"):
                file.truncate(sum(map(len, lines[:-1])))
                lines.pop()
        for line in lines:
            row = json.loads(line)
            entry, images = read_entry(row["entry"]), int(row["images"])
            if all(row.get(key) == value for key, value in stamp.items()):
                yield entry.sha256, (entry, images)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{partial}: not what a calibration left that was stopped; remove it, or give another --output") from error
    except OSError as error:
        raise unwritable(partial, error) from error


def _keep(partial: Path, row: dict[str, Any]) -> None:
    """Adds a line; what is there already stays whatever happens."""
    try:
        with partial.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise unwritable(partial, error) from error
