"""Processes that scan models side by side, each one model at a time; one that dies costs the model that it was at, and no other."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import banscan
from banscan.errors import BanscanError
from banscan.importers.digest import sha256
from banscan.scanner.findings import Failure
from banscan.scanner.fleet import stored
from banscan.scanner.fleet.job import Job
from banscan.scanner.fleet.stored import Stored
from banscan.scanner.request import plain

# the folder that holds the package: the child looks nowhere else for it, least of all in the folder where it is started
ROOT = Path(banscan.__file__).parents[1]
CODE = "import sys; sys.path.append(sys.argv[1]); from banscan.scanner.fleet.worker import main; main()"
# what starts a process as `worker` describes
COMMAND = (sys.executable, "-P", "-c", CODE, str(ROOT))
# seconds for ending by itself
GRACE = 3


@dataclass
class _Shared:
    """What the threads share: the jobs that are left, what each model's result was asked with, what came of them."""

    jobs: Iterator[Job]
    folder: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: dict[str, tuple[Path, dict[str, Any]]] = field(default_factory=dict)
    twins: list[tuple[Job, str]] = field(default_factory=list)
    results: "queue.Queue[tuple[Job, Stored] | BaseException | None]" = field(default_factory=queue.Queue)
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    ended: bool = False


def scanned(jobs: Sequence[Job], folder: Path, *, processes: int, threads: int) -> Iterator[tuple[Job, Stored]]:
    """What comes of every job, as it comes; what is in the folder already is not scanned again.

    Args:
        folder: of the results, `stored.prepare`d.
        processes: at once, with so many `threads` each.
    """
    shared = _Shared(iter(jobs), folder)
    count = max(1, min(processes, len(jobs)))
    for _ in range(count):
        threading.Thread(target=_serve, args=(shared, threads), daemon=True).start()
    try:
        while count:
            result = shared.results.get()
            if result is None:
                count -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
        yield from ((job, _twin(shared, job, digest)) for job, digest in shared.twins)
    finally:
        with shared.lock:
            shared.ended = True
        for worker in shared.workers:
            _end(worker)


def _serve(shared: _Shared, threads: int) -> None:
    """One process and the jobs that it does."""
    worker: subprocess.Popen[bytes] | None = None
    try:
        while (found := _next(shared)) is not None:
            job, digest = found
            file, asked = stored.place(shared.folder, digest), job.asked()
            result = stored.found(file, job.model, digest, asked, lasting=True)
            if result is None:
                stored.tidy(file)
                if worker is None or worker.poll() is not None:
                    worker = _started(shared, threads)
                ended = _ask(worker, job.in_threads(threads), file, digest, asked)
                result = stored.found(file, job.model, digest, asked) if ended is None else None
                if result is None:
                    result = _failed(file, job, digest, asked, ended)
            shared.results.put((job, result))
        shared.results.put(None)
    except BaseException as error:
        shared.results.put(error)


def _next(shared: _Shared) -> tuple[Job, str] | None:
    """The next job that is not another's twin, with the SHA-256 of its model."""
    while True:
        with shared.lock:
            job = None if shared.ended else next(shared.jobs, None)
        if job is None:
            return None
        try:
            digest = sha256(job.model)
        except OSError as error:
            sentence = f"{job.model}: cannot be read ({error.strerror or error}); expected the path of a model"
            shared.results.put((job, Stored(Failure(job.model, None, sentence, 2), None)))
            continue
        with shared.lock:
            first = shared.seen.setdefault(digest, (job.model, job.asked()))
            if first[0] != job.model:
                shared.twins.append((job, digest))
                continue
        return job, digest


def _twin(shared: _Shared, job: Job, digest: str) -> Stored:
    """What came of a file with the same content as another, which was not scanned twice."""
    first, asked = shared.seen[digest]
    if asked != job.asked():
        sentence = (
            f"{job.model}: the same file as {first}, which was scanned in another way; give one of them another folder with --results"
        )
        return Stored(Failure(job.model, digest, sentence, 4), None)
    file = stored.place(shared.folder, digest)
    result = stored.found(file, job.model, digest)
    if result is None:
        raise BanscanError(f"{file}: was taken away while others were scanned; scan again")
    return result


def _started(shared: _Shared, threads: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with shared.lock:
        if shared.ended:
            raise BanscanError("stopped")
        # Ctrl-C is for the process that started it, which then ends this one
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        worker = subprocess.Popen(COMMAND, env=environment, start_new_session=True, **pipes)
        shared.workers.append(worker)
    return worker


def _ask(worker: "subprocess.Popen[bytes]", job: Job, file: Path, digest: str, asked: dict[str, Any]) -> int | None:
    """Has a job done; the return code of the process where it ended over it."""
    request = {
        "model": str(job.model),
        "images": str(job.images),
        "request": plain(job.request),
        "file": str(file),
        "sha256": digest,
        "asked": asked,
    }
    assert worker.stdin is not None
    assert worker.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.write(json.dumps(request).encode("ascii") + b"\n")
        worker.stdin.flush()
        if worker.stdout.readline():
            return None
    return worker.wait()


def _failed(file: Path, job: Job, digest: str, asked: dict[str, Any], ended: int | None) -> Stored:
    """The failure of a job whose process did not write what came of it."""
    if ended is not None and ended < 0:
        name = signal.Signals(-ended).name
        why = f"the process that scanned it was ended by {name}"
        why += ", perhaps for want of memory; give fewer --jobs or fewer --max-images" if name == "SIGKILL" else "; scan it again"
    elif ended is not None:
        why = f"the process that scanned it ended with {ended}; scan it alone, with --debug"
    else:
        why = f"its result could not be written to {file}; make room there, and scan it again"
    failure = Failure(job.model, digest, f"{job.model}: {why}", BanscanError.exit_code)
    try:
        stored.write(file, failure, digest, asked)
    except BanscanError:
        return Stored(failure, None)
    return Stored(failure, file)


def _end(worker: "subprocess.Popen[bytes]") -> None:
    assert worker.stdin is not None
    with contextlib.suppress(OSError):
        worker.stdin.close()
    try:
        worker.wait(GRACE)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
