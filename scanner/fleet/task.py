"""What Ray runs on the machines of a cluster: one model in a process of this package, as `process.py` starts it.

The process stays for the next model that Ray gives the same worker. When Ray's worker is killed, its end closes the stdin of the process,
which then ends as well.
"""

import os
import platform
import tempfile
from pathlib import Path

from banscan.errors import BanscanError
from banscan.scanner.fleet.place import Order
from banscan.scanner.fleet.process import Process
from banscan.version import __version__

_process: Process | None = None


class EndedError(Exception):
    """The process that scanned a model ended over it, with this return code."""


def scan(order: Order, threads: int) -> str:
    """Scans the model of an order and returns what `stored.write` wrote of it; the order's own file is that of another machine.

    Raises:
        EndedError: the process ended; it may have been an accident.
        BanscanError: this machine cannot scan it.
    """
    global _process
    here = platform.node()
    if order.asked["banscan"] != __version__:
        raise BanscanError(f"{here} has banscan {__version__}, this is {order.asked['banscan']}; install one version everywhere")
    folder = order.folder if os.path.isdir(order.folder) else None
    for path in (order.model, order.images):
        if not os.path.exists(os.path.join(order.folder, path)):
            raise BanscanError(f"{path} is not there on {here}; put models and images where every machine has them under the same path")
    if _process is None or (_process.threads, _process.folder) != (threads, folder):
        if _process is not None:
            _process.end()
        _process = Process(threads, folder)
    try:
        with tempfile.TemporaryDirectory(prefix="banscan-") as place:
            file = Path(place) / "result.json"
            code = _process.done(Order(**vars(order) | {"file": str(file)}))
            if code is not None:
                raise EndedError(code)
            return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BanscanError(
            f"its result could not be written on {here} ({error.strerror or error}); make room there, and scan it again"
        ) from error
