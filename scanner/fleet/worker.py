"""A process that scans models one after another: jobs come in as lines of JSON, a line goes out for each that is done.

It ends, whatever it is doing, when its stdin is closed, which it is as soon as the process that started it is gone.
"""

import contextlib
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from banscan import reader
from banscan.errors import BanscanError
from banscan.importers.digest import sha256
from banscan.scanner.cli import failure, stop, streams
from banscan.scanner.cli.console import work
from banscan.scanner.findings import Failure
from banscan.scanner.fleet import stored
from banscan.scanner.request import restored


def main() -> None:
    """Does what comes in until nothing more does."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # libraries in C write where they like
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    streams.prepare(debug=os.environ.get("BANSCAN_DEBUG", "0") not in ("", "0"))
    stop.listen()
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    with work():
        reader.start()
        threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
        while True:
            done(jobs.get())
            told.write("\n")
            told.flush()


def _listen(jobs: "queue.Queue[dict[str, Any]]") -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    reader.stop()
    if tempfile.tempdir is not None:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
    os._exit(0)


def done(job: dict[str, Any]) -> None:
    """Scans the model of a job and writes what came of it."""
    model, file = Path(job["model"]), Path(job["file"])
    try:
        scanned: Any = restored(job["request"]).run(model, Path(job["images"]))
        if sha256(model) != job["sha256"]:
            raise BanscanError(f"{model}: was changed while it was scanned; scan it again")
    except Exception as error:
        scanned = Failure(model, job["sha256"], *failure.told(error))
    with contextlib.suppress(BanscanError):  # the other process misses it, and says so
        stored.write(file, scanned, job["sha256"], job["asked"])


if __name__ == "__main__":
    main()
