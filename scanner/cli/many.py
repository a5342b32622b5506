"""Many models in one command: a line for each as it comes, a summary, and results that an interrupted run goes on from."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from banscan.errors import UsageError
from banscan.scanner import baseline as known
from banscan.scanner.cli import codes, outputs
from banscan.scanner.cli.console import destination
from banscan.scanner.cli.streams import say
from banscan.scanner.findings import Failure
from banscan.scanner.inputs import given
from banscan.scanner.machine import threads
from banscan.scanner.report import formats
from banscan.scanner.request import Request
from banscan.text import counted

if TYPE_CHECKING:
    from banscan.scanner.findings import Report
    from banscan.scanner.fleet.job import Job
    from banscan.scanner.fleet.place import Place
    from banscan.scanner.fleet.process import Show

RESULTS = Path("banscan-results")


@dataclass(frozen=True, kw_only=True)
class Told:
    """How results are told.

    Attributes:
        format_: of stdout; `outputs`, the files that are written beside.
        accepted: fingerprints that a baseline accepts.
        fail_on: from which outcome on the exit code is 1; `exit_zero`, whether it is 0 whatever the verdicts.
        quiet: whether stdout has one line only.
    """

    format_: str
    outputs: tuple[Path, ...]
    accepted: frozenset[str]
    fail_on: str
    exit_zero: bool = False
    quiet: bool = False


def run(
    words: Sequence[Path],
    clean_dir: Path | None,
    request: Request,
    told: Told,
    *,
    table: Path | None,
    at_once: int | None,
    results: Path | None,
    part: str | None,
    ray: str | None,
) -> int:
    """Scans them and returns the exit code of all.

    Args:
        at_once: so many, None for what is usual in the place; `ray` is the address of a cluster, None for this machine.

    Raises:
        UsageError: something that is named cannot be; nothing was scanned then.
    """
    from banscan.scanner.cli.board import board
    from banscan.scanner.fleet import cluster, models, shard, stored

    own = shard.parse(part, os.environ)
    texts = (request.options.labels, request.options.classes)
    models.check(words)
    given.check(None, texts, request.calibration, clean_dir)
    if ray is not None:
        cluster.check(ray, request.options.device)
    from banscan.scanner.fleet import pool  # torch comes with it, after all that can be told without
    from banscan.scanner.fleet.job import fetched

    jobs = _jobs(words, clean_dir, request, table)
    read = (*(job.model for job in jobs), *texts, request.calibration, table)
    outputs.check(told.format_, told.outputs, read, {job.images for job in jobs}, quiet=told.quiet)
    # of a dry run nothing is kept, least of all in place of what scans found
    folder = Path(tempfile.mkdtemp()) if request.dry_run else results or RESULTS
    stored.prepare(folder)
    (folder / own.file).unlink(missing_ok=True)
    mine = own.own(jobs)
    scanned: list[Report | Failure] = []
    done: list[tuple[Path, str | None, str | None]] = []
    stack = ExitStack()
    try:
        here, failures = fetched(mine, stack)
        for failure in failures:
            scanned.append(failure)
            done.append((failure.path, None, failure.sentence))
            _say(f"[{len(scanned):>{len(str(len(mine)))}}/{len(mine)}]", failure, told)
        with board() as shown, _place(request, [job.model for job in here], at_once, ray, shown.show) as where:
            for job, result in pool.scanned(here, folder, where):
                scanned.append(_applied(result.scanned, told.accepted))
                done.append(_row(job.model, result))
                with shown.without(str(job.model)):
                    _say(f"[{len(scanned):>{len(str(len(mine)))}}/{len(mine)}]", scanned[-1], told)
    except BaseException:
        if len(scanned) < len(mine) and not request.dry_run:
            say(f"{len(scanned)} of {counted(len(mine), 'model')} are done and kept in {folder}; the same command goes on from there")
        raise
    finally:
        stack.close()
    shard.write(folder, own, [job.model for job in jobs], done)
    return tell(scanned, told)


def merge(folder: Path, told: Told) -> int:
    """Tells the results of all shards below a folder together, and returns the exit code of all."""
    from banscan.scanner.fleet import shard

    outputs.check(told.format_, told.outputs, (), (folder,), quiet=told.quiet)
    return tell([_applied(stored.scanned, told.accepted) for stored in shard.merge(folder)], told)


def tell(scanned: Sequence["Report | Failure"], told: Told) -> int:
    """Writes the outputs and the summary, and returns the exit code of all."""
    reports = [one for one in scanned if not isinstance(one, Failure)]
    failures = [one for one in scanned if isinstance(one, Failure)]
    outputs.write_many(reports, failures, told.outputs)
    with destination(None) as stream:
        if told.quiet:
            from banscan.scanner.report import summary

            stream.write(f"{summary.counts(reports, failures)}\n")
        else:
            formats.named(told.format_).many(reports, failures, stream)
    verdicts = [] if told.exit_zero else [codes.of(report, told.fail_on) for report in reports]
    code = codes.joined([*verdicts, *(failure.code for failure in failures)])
    outputs.explain(code, reports)
    return code


def _jobs(words: Sequence[Path], clean_dir: Path | None, request: Request, table: Path | None) -> "tuple[Job, ...]":
    from banscan.scanner.fleet import models
    from banscan.scanner.fleet import table as tables
    from banscan.scanner.fleet.job import Job

    if table is not None:
        if words:
            raise UsageError(f"{words[0]}: --table {table} names the models; give one or the other")
        return tables.jobs(table, clean_dir, request)
    found = models.listed(words)
    for note in found.notes:
        say(note)
    assert clean_dir is not None
    return tuple(Job(model, clean_dir, request) for model in found.models)


@contextmanager
def _place(request: Request, models: Sequence[Path], at_once: int | None, ray: str | None, show: "Show") -> "Iterator[Place]":
    """Where the models are scanned."""
    from banscan.scanner.fleet import cluster, process

    if ray is not None:
        how = request.options
        with cluster.joined(ray, at_once=at_once, threads=how.threads, device=how.device, models=models) as found:
            yield found
        return
    count = max(1, min(at_once or 1, len(models)))
    yield process.Processes(count, threads.share(request.options.threads, count), show)


def _applied(scanned: "Report | Failure", accepted: frozenset[str]) -> "Report | Failure":
    return scanned if isinstance(scanned, Failure) else known.applied(scanned, accepted)


def _row(model: Path, result: object) -> tuple[Path, str | None, str | None]:
    """What the shard says of a model: that of which no file was kept with its sentence."""
    from banscan.scanner.fleet.stored import Stored

    assert isinstance(result, Stored)
    scanned = result.scanned
    digest = scanned.sha256 if isinstance(scanned, Failure) else None
    if result.file is not None:
        return model, result.file.stem, None
    return model, digest, scanned.sentence if isinstance(scanned, Failure) else None


def _say(counter: str, scanned: "Report | Failure", told: Told) -> None:
    """The line of one model: on stdout before a summary for people, on stderr before a document."""
    from banscan.scanner.report import summary

    line = f"{counter} {summary.line(scanned)}"
    if told.format_ != "terminal":
        say(line)
    elif not told.quiet:
        with destination(None) as stream:
            stream.write(f"{line}\n")
