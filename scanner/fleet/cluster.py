"""A Ray cluster as the place where models are scanned.

Another process talks to Ray (`driver.py`): when Ray loses its cluster it ends the process that it is in, with exit code 1, which would be
a verdict. Orders go there as lines of JSON, and answers come back.
"""

import contextlib
import json
import os
import queue
import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from banscan.errors import BanscanError, UsageError
from banscan.scanner.fleet import process, stored
from banscan.scanner.fleet.place import Order

EXPECTED = "expected HOST:PORT of a Ray cluster, auto for the one of this machine, or local for one of its own"
# bytes that a task is given: a usual scan's, and so many copies of the model's file, in float32 and with gradients
MEMORY, COPIES = 2 << 30, 8
# seconds for a port to answer, and for Ray to end
PATIENCE, GRACE = 5, 20
# of HTTP/2: the length of a frame's head, the type of a frame of settings, and what a client says first, with empty settings of its own
HEAD, SETTINGS = 9, 4
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0))


@dataclass
class Cluster:
    """So many tasks at once, each in so many threads; the process that talks to Ray, and who waits for its answers."""

    address: str
    driver: "subprocess.Popen[bytes]"
    hands: int = 1
    threads: int = 1
    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: dict[int, "queue.Queue[dict[str, Any] | None]"] = field(default_factory=dict)
    asked: int = 0
    lost: bool = False

    def hand(self) -> "Task":
        """As `place.Place` has it."""
        return Task(self)

    def answer(self, order: Order) -> dict[str, Any] | None:
        """What comes of an order; None where there is no cluster any more."""
        own: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with self.lock:
            if self.lost:
                return None
            self.asked += 1
            self.waiting[self.asked] = own
            line = json.dumps({"number": self.asked, "order": asdict(order)}).encode("ascii") + b"\n"
            assert self.driver.stdin is not None
            with contextlib.suppress(OSError):  # who listens is told of the end
                self.driver.stdin.write(line)
                self.driver.stdin.flush()
        return own.get()

    def listen(self) -> None:
        """Hands answers to those that wait for them, until there are no more."""
        assert self.driver.stdout is not None
        try:
            with self.driver.stdout as lines:
                for line in lines:
                    document = json.loads(line)
                    self.waiting.pop(document["number"]).put(document)
        finally:  # or they would wait for ever
            with self.lock:
                self.lost = True
                for one in self.waiting.values():
                    one.put(None)

    def end(self) -> None:
        """Takes leave of the cluster."""
        process.dismiss(self.driver, GRACE)


@dataclass(frozen=True)
class Task:
    """One task after another."""

    cluster: Cluster

    def scan(self, order: Order) -> str | None:
        """As `place.Hand` has it."""
        answer = self.cluster.answer(order)
        if answer is None or answer["lost"] is not None:
            more = "" if answer is None else f" ({answer['lost']})"
            raise BanscanError(f"--ray {self.cluster.address}: the cluster was lost{more}; start it, and give the same command again")
        if answer["text"] is not None:
            with contextlib.suppress(BanscanError):  # its file is missed, which is told
                stored.keep(Path(order.file), answer["text"])
        why: str | None = answer["why"]
        return why

    def end(self) -> None:
        """As `place.Hand` has it; tasks end with the cluster's driver."""


def check(address: str, device: str) -> None:
    """Raises UsageError, before anything is loaded, for an address that cannot be, or that nothing answers at."""
    if find_spec("ray") is None:
        raise UsageError(f"--ray {address}: needs a package more: pip install 'banscan[ray]'")
    if device.startswith("cuda:"):
        raise UsageError(f"--device {device}: Ray says which GPU a model gets; give --device cuda")
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or re.fullmatch("[0-9]{1,5}", port) is None:
        raise UsageError(f"--ray {address}: {EXPECTED}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as connection:
            # Ray itself would wait for minutes; with TLS nothing can be said to it here
            if os.environ.get("RAY_USE_TLS", "0") == "0" and not _speaks(connection):
                raise UsageError(f"--ray {address}: something else than Ray answers there; {EXPECTED}")
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(f"--ray {address}: nothing answers there ({getattr(error, 'strerror', None) or error}); {EXPECTED}") from error


def _speaks(connection: socket.socket) -> bool:
    """Whether the other end speaks HTTP/2, as Ray does: it answers a greeting with its settings (RFC 9113, section 3.4)."""
    connection.settimeout(PATIENCE)
    connection.sendall(GREETING)
    said = b""
    while len(said) < HEAD:
        more = connection.recv(HEAD - len(said))
        if not more:
            return False
        said += more
    return said[3] == SETTINGS


@contextlib.contextmanager
def joined(address: str, *, at_once: int | None, threads: int | None, device: str, models: Sequence[Path]) -> Iterator[Cluster]:
    """The cluster at an address, or one that is started here and ended afterwards.

    Args:
        at_once: models at most; None for one for each GPU, or each machine.
        threads: of each; None for the processors of the cluster, shared out.
        models: that are to be scanned.

    Raises:
        UsageError: there is no such cluster, or no machine of it has what a task needs.
    """
    largest = max((model.stat().st_size for model in models if model.is_file()), default=0)
    asked = {"address": address, "at_once": at_once, "threads": threads, "device": device, "memory": MEMORY + COPIES * largest}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    cluster, listened = Cluster(address, subprocess.Popen((*process.command("driver"), json.dumps(asked)), **pipes)), False
    try:
        assert cluster.driver.stdout is not None
        line = cluster.driver.stdout.readline()
        said = json.loads(line) if line else {}
        if not line or "error" in said:
            why = said.get("error", f"no cluster can be joined there (Ray ended with {cluster.driver.wait()}); {EXPECTED}")
            raise UsageError(f"--ray {address}: {why}")
        cluster.hands, cluster.threads = said["hands"], said["threads"]
        threading.Thread(target=cluster.listen, daemon=True).start()
        listened = True
        yield cluster
    finally:
        cluster.end()
        if not listened:  # else it is closed where it is read
            cluster.driver.stdout.close()  # type: ignore[union-attr]
