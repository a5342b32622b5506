"""Mutants of intact files, read as a scan reads them: in a confined process with its limits on time and memory.

python -m bench.fuzz --minutes 10 --out bench/results/fuzz.jsonl

Every row is a batch, known by its kind and seed, so that a run goes on where the one before stopped. A mutant with an outcome that must
not be is kept: `--keep FOLDER`.
"""

import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from banscan.importers.sandbox import confinement
from banscan.importers.sandbox.budget import reading
from bench import rows
from bench.fuzz import files, trial
from bench.fuzz.mutations import KINDS, mutant

BATCH = 200
# seconds for one mutant
PATIENCE = 20
# of every six batches: what reads the most, the most
ORDER = ("onnx", "script", "onnx", "pt2", "onnx", "image", "onnx", "script", "onnx", "pt2", "onnx", "table", "onnx", "names")


def batch(kind: str, number: int, intact: list[Path], folder: Path, keep: Path | None) -> dict[str, Any]:
    """Reads BATCH mutants of one kind; the row."""
    own = [p for p in intact if p.name.startswith(kind)]
    outcomes: Counter[str] = Counter()
    told: list[str] = []
    peak = 0
    begin, first = time.perf_counter(), 0
    while first < BATCH:
        done, reached = _process(kind, number, own, first, folder)
        for at, what, text in done:
            outcomes[what] += 1
            if what in trial.FAULTS:
                told.append(f"{number}-{at}: {what}: {text[:300]}")
                _keep(kind, number, at, own, keep)
            first = at + 1
        peak = max(peak, reached)
    return {
        "kind": kind,
        "batch": number,
        "mutants": BATCH,
        "outcomes": dict(outcomes),
        "told": told,
        "seconds": round(time.perf_counter() - begin, 1),
        "peak_mb": peak >> 10,
        "commit": rows.commit(),
    }


def made(kind: str, number: int, at: int, own: list[Path]) -> tuple[str, bytes]:
    """Name and bytes of one mutant."""
    source = own[(number * BATCH + at) % len(own)]
    return source.name, mutant(kind, source.read_bytes(), f"{kind}-{number}-{at}")


def _keep(kind: str, number: int, at: int, own: list[Path], keep: Path | None) -> None:
    if keep is not None:
        name, data = made(kind, number, at, own)
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{kind}-{number}-{at}-{name}").write_bytes(data)


def _process(kind: str, number: int, own: list[Path], first: int, folder: Path) -> tuple[list[tuple[int, str, str]], int]:
    """Outcomes from the mutant `first` on, in a process of their own, until one ends it; and its peak of memory in kB."""
    place = Path(tempfile.mkdtemp(dir=folder))
    ends, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ends)
        _child(kind, number, own, first, place, begins)
    os.close(begins)
    done: list[tuple[int, str, str]] = []
    buffer, lost = b"", trial.CRASH
    while True:
        if not select.select([ends], [], [], PATIENCE)[0]:
            lost = trial.HANG
            os.kill(child, signal.SIGKILL)
            break
        data = os.read(ends, 1 << 16)
        if not data:
            break
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        done += [tuple(json.loads(line)) for line in lines]
    os.close(ends)
    status, used = os.wait4(child, 0)[1:]
    shutil.rmtree(place)
    last = done[-1][0] + 1 if done else first
    if last < BATCH:
        code = os.waitstatus_to_exitcode(status)
        # the reader's own limits end it, and the client says so in a sentence
        limited = lost == trial.CRASH and code in (-signal.SIGXCPU, -signal.SIGABRT)
        done.append((last, trial.REFUSED if limited else lost, f"ended with {code}"))
    return done, used.ru_maxrss


def _child(kind: str, number: int, own: list[Path], first: int, place: Path, out: int) -> None:
    """Confined as the reader of a scan is; answers a line for every mutant."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        tempfile.tempdir = str(place)
        torch.set_num_threads(1)
        sources = {p.name: p.read_bytes() for p in own}
        # the time of each mutant is looked at from outside
        confinement.limit(replace(reading(max(own, key=lambda p: p.stat().st_size)), seconds=BATCH * PATIENCE))
        confinement.confine([], [place])
        if kind in ("table", "names"):
            files.beside(_made(place / "images"))
        for at in range(first, BATCH):
            name = own[(number * BATCH + at) % len(own)].name
            path = place / name
            path.write_bytes(mutant(kind, sources[name], f"{kind}-{number}-{at}"))
            what, text = trial.outcome(kind, path)
            os.write(out, json.dumps([at, what, text[:500]]).encode() + b"\n")
            path.unlink(missing_ok=True)
    except BaseException as error:
        os.write(out, json.dumps([first, trial.CRASH, f"{type(error).__name__}: {error}"]).encode() + b"\n")
    finally:
        os._exit(0)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


@click.command()
@click.option("--minutes", type=float, default=10, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Rows; a run goes on where they end.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Mutants with an outcome that must not be go there.")
@click.option("--only", type=click.Choice(sorted(KINDS)), multiple=True, help="Mutants of this kind; may be given several times.")
def main(minutes: float, out: Path, keep: Path | None, only: tuple[str, ...]) -> None:
    """Read mutants for some minutes."""
    from banscan.importers.sandbox.server import warm

    torch.set_num_threads(1)
    last = time.monotonic() + 60 * minutes
    known = Counter(row["kind"] for row in rows.read(out))
    with tempfile.TemporaryDirectory(prefix="banscan-fuzz-") as folder:
        intact = [p for make in (files.models, files.beside) for p in make(_made(Path(folder) / make.__name__))]
        warm()
        while True:
            for kind in (k for k in ORDER if not only or k in only):
                if time.monotonic() > last:
                    return
                row = batch(kind, known[kind], intact, Path(folder), keep)
                known[kind] += 1
                rows.append(out, row)
                click.echo(f"{kind} {row['batch']}: {row['outcomes']} in {row['seconds']} s, {row['peak_mb']} MB", err=True)
                for line in row["told"]:
                    click.echo(f"  {line}", err=True)


if __name__ == "__main__":
    main()
