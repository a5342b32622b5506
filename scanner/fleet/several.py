"""Many models from Python: the same processes, results and failures as of `banscan scan DIR --jobs N`."""

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from banscan.errors import UsageError
from banscan.scanner.findings import Failure, Report
from banscan.scanner.fleet import models as named
from banscan.scanner.fleet import stored
from banscan.scanner.fleet.job import Job, fetched
from banscan.scanner.inputs import given
from banscan.scanner.machine import threads
from banscan.scanner.request import Request
from banscan.scanner.settings import Options, Settings

if TYPE_CHECKING:
    from banscan.scanner.calibration import Calibration


def scan_many(
    models: str | Path | Iterable[str | Path],
    clean_dir: str | Path,
    *,
    settings: Settings | None = None,
    options: Options | None = None,
    against: "Calibration | None" = None,
    deployed: str | None = None,
    results: str | Path | None = None,
    jobs: int = 1,
) -> Iterator[Report | Failure]:
    """Scans many models, each in a process beside this one, and gives what comes of each as it comes.

    A model that cannot be scanned, or whose process dies, is a `Failure` and ends nothing. What is wrong with the arguments is told by the
    call itself, before the first scan. Leaving the loop ends the processes.

    Args:
        models: files, folders of models and patterns, or one of these.
        clean_dir: clean images for all of them, as in `scan`.
        settings, options: of every scan, as in `scan`; `options.threads` are shared out among the processes.
        against: a calibration that is in a file, as `calibrate` with an output and `load_calibration` give it.
        deployed: as what each file is scanned beside the file as it is, as in `scan_deployed`.
        results: a folder that keeps them; a second call goes on from there. None to keep nothing.
        jobs: models that are scanned at once, at least 1.

    Returns:
        An iterator of reports, which hold no pictures since they come from other processes, and failures; their order is that in which
        they end.

    Raises:
        UsageError: a path or setting that cannot be, or a model that is named twice; nothing was scanned.
        ModelError: a folder is a model of another program.
        BanscanError: a result was taken away, or this machine can start no processes; raised by the iterator.

    Example:
        >>> for one in scan_many("models/", "imgs/", jobs=2):
        ...     print(one.sentence if isinstance(one, Failure) else one.verdict.outcome)
    """
    settings, options, images = settings or Settings(), options or Options(), Path(clean_dir)
    if jobs < 1:
        raise UsageError(f"jobs {jobs}: expected at least 1")
    file = _file(against, settings)
    words = [Path(models)] if isinstance(models, str | Path) else [Path(word) for word in models]
    if not words:
        raise UsageError(f"no models; {named.EXPECTED}")
    named.check(words)
    given.check(None, (options.labels, options.classes), file, images)
    request = Request(settings=settings, options=options, calibration=file, deployed=deployed)
    listed = named.listed(words)
    for note in listed.notes:
        warnings.warn(note, stacklevel=2)
    if results is not None:
        stored.prepare(Path(results))
    return _scanned([Job(model, images, request) for model in listed.models], None if results is None else Path(results), jobs)


def _file(against: "Calibration | None", settings: Settings) -> Path | None:
    """Where other processes find a calibration; None for the one that banscan ships."""
    if against is None or against.alpha is None:
        return None
    against.check(settings)
    if against.path is None:
        raise UsageError("against: a calibration that is in no file; give calibrate an output, or load one with load_calibration")
    return against.path


def _scanned(jobs: list[Job], results: Path | None, count: int) -> Iterator[Report | Failure]:
    from banscan.scanner.fleet import pool, process

    hands = max(1, min(count, len(jobs)))
    where = process.Processes(hands, threads.share(jobs[0].request.options.threads, hands))
    with ExitStack() as kept:
        folder = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="banscan-"))) if results is None else results
        here, failures = fetched(jobs, kept)
        yield from failures
        for _, result in pool.scanned(here, folder, where):
            yield result.scanned
