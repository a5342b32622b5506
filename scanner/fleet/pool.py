"""Many models on many hands: each is scanned once, and what came of it is kept in a file of its own."""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from banscan.errors import BanscanError
from banscan.importers.digest import identity
from banscan.scanner.findings import Failure
from banscan.scanner.fleet import stored
from banscan.scanner.fleet.job import Job
from banscan.scanner.fleet.place import Hand, Place
from banscan.scanner.fleet.stored import Stored


@dataclass
class _Shared:
    """What the threads share: the jobs that are left, what each model's result was asked with, what came of them."""

    jobs: Iterator[Job]
    folder: Path
    threads: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: dict[str, tuple[Path, dict[str, Any]]] = field(default_factory=dict)
    twins: list[tuple[Job, str]] = field(default_factory=list)
    results: "queue.Queue[tuple[Job, Stored] | BaseException | None]" = field(default_factory=queue.Queue)
    ended: bool = False


def scanned(jobs: Sequence[Job], folder: Path, place: Place) -> Iterator[tuple[Job, Stored]]:
    """What comes of every job, as it comes; what is in the folder already is not scanned again.

    Args:
        folder: of the results, `stored.prepare`d.
        place: where models are scanned.

    Raises:
        BanscanError: the place is lost; what was done until then is kept.
    """
    shared = _Shared(iter(jobs), folder, place.threads)
    hands = [place.hand() for _ in range(max(1, min(place.hands, len(jobs))))]
    for hand in hands:
        threading.Thread(target=_serve, args=(shared, hand), daemon=True).start()
    working = len(hands)
    try:
        while working:
            result = shared.results.get()
            if result is None:
                working -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
        yield from ((job, _twin(shared, job, digest)) for job, digest in shared.twins)
    finally:
        with shared.lock:
            shared.ended = True
        for hand in hands:
            hand.end()


def _serve(shared: _Shared, hand: Hand) -> None:
    """One hand and the jobs that it does."""
    try:
        while (found := _next(shared)) is not None:
            job, digest = found
            file, asked = stored.place(shared.folder, digest), job.asked()
            result = stored.found(file, job.model, digest, asked, lasting=True)
            if result is None:
                stored.tidy(file)
                why = hand.scan(job.in_threads(shared.threads).order(file, digest, asked))
                result = stored.found(file, job.model, digest, asked) if why is None else None
                if result is None:
                    if shared.ended:  # it was stopped, which says nothing of the model
                        return
                    result = _failed(file, job, digest, asked, why)
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
            digest = identity(job.model)
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


def _failed(file: Path, job: Job, digest: str, asked: dict[str, Any], why: str | None) -> Stored:
    """The failure of a job of which no result was written."""
    if why is None:
        why = f"its result could not be written to {file}; make room there, and scan it again"
    failure = Failure(job.model, digest, f"{job.model}: {why}", BanscanError.exit_code)
    try:
        stored.write(file, failure, digest, asked)
    except BanscanError:
        return Stored(failure, None)
    return Stored(failure, file)
