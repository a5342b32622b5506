"""A process that scans models one after another: orders come in as lines of JSON; lines go out that say how far it is, an empty
one when one is done.

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
import time
from pathlib import Path
from typing import Any, TextIO

from banscan import reader
from banscan.errors import BanscanError
from banscan.importers.digest import identity
from banscan.scanner.cli import failure, stop
from banscan.scanner.cli.console import work
from banscan.scanner.findings import Failure
from banscan.scanner.fleet import channel, stored
from banscan.scanner.fleet.place import Order
from banscan.scanner.machine.forecast import Forecast
from banscan.scanner.machine.progress import Progress
from banscan.scanner.request import restored

# seconds between two lines that say how far a scan is
PAUSE = 0.5
# set when nobody waits for a result any more
_ended = threading.Event()


def main() -> None:
    """Does what comes in until nothing more does."""
    told = channel.opened()
    stop.listen()
    orders: queue.Queue[Order] = queue.Queue()
    with work():
        reader.start()
        threading.Thread(target=_listen, args=(orders,), daemon=True).start()
        while True:
            done(orders.get(), _forecast(told))
            told.write("\n")
            told.flush()


def _listen(orders: "queue.Queue[Order]") -> None:
    for line in sys.stdin:
        orders.put(Order(**json.loads(line)))
    _ended.set()
    reader.stop()
    if tempfile.tempdir is not None:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
    os._exit(0)


def _forecast(told: TextIO) -> Forecast:
    """Progress that says how far a scan is, and how long it still takes, not more often than somebody can read."""
    last = 0.0

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= PAUSE:
            last = now
            with contextlib.suppress(OSError):  # nobody listens any more, and this process is about to end
                told.write(f"{json.dumps([forecast.named(stage), done, total, forecast.left()])}\n")
                told.flush()

    forecast = Forecast(tell)
    return forecast


def done(order: Order, progress: Progress) -> None:
    """Scans the model of an order and writes what came of it."""
    model = Path(order.model)
    try:
        scanned: Any = restored(order.request).run(model, Path(order.images), progress)
        if identity(model) != order.sha256:
            raise BanscanError(f"{model}: was changed while it was scanned; scan it again")
    except Exception as error:
        if _ended.is_set():  # the scan failed for that
            return
        scanned = Failure(model, order.sha256, *failure.told(error))
    with contextlib.suppress(BanscanError):  # the other process misses it, and says so
        stored.write(Path(order.file), scanned, order.sha256, order.asked)


if __name__ == "__main__":
    main()
