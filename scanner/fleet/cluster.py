"""A Ray cluster as the place where models are scanned: every model is a task that says what it needs, and is tried again where it dies.

Ray is loaded here only. Models and images have to lie where every machine has them under the same path; results come back as the value of
the task and are written by the process that asked for them.
"""

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from banscan.errors import BanscanError, UsageError
from banscan.scanner.fleet import stored, task
from banscan.scanner.fleet.place import Order
from banscan.scanner.fleet.process import ending
from banscan.scanner.machine import threads as processors

EXPECTED = "expected HOST:PORT of a Ray cluster, auto for the one of this machine, or local for one of its own"
# a task is tried so often again after its worker or its process died
RETRIES = 2
# bytes that a task is given: a usual scan's, and so many copies of the model's file in float32 and its gradients
MEMORY, COPIES = 2 << 30, 8
# bytes of Ray's store of objects; results are small
STORE = 100 << 20
# seconds for a port to answer
PATIENCE = 5
# of HTTP/2: the length of a frame's head, the type of a frame of settings, and what a client says first, with empty settings of its own
HEAD, SETTINGS = 9, 4
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0))
# characters of a folder below which Ray can make its sockets
FITTING = 40


@dataclass(frozen=True)
class Room:
    """What a machine of the cluster has for tasks."""

    processors: int
    gpus: int
    memory: int


@dataclass(frozen=True)
class Cluster:
    """So many tasks at once, each in so many threads."""

    address: str
    hands: int
    threads: int
    gpus: int
    memory: int

    def hand(self) -> "Tasks":
        """As `place.Place` has it."""
        return Tasks(self)


class Tasks:
    """One task after another."""

    def __init__(self, cluster: Cluster) -> None:
        import ray

        self.cluster = cluster
        self.ended = False
        self.task: Any = ray.remote(
            num_cpus=cluster.threads,
            num_gpus=cluster.gpus,
            memory=cluster.memory,
            max_retries=RETRIES,
            retry_exceptions=[task.EndedError],
        )(task.scan)

    def scan(self, order: Order) -> str | None:
        """As `place.Hand` has it."""
        import ray

        if self.ended:
            raise BanscanError("stopped")
        try:
            text = ray.get(self.task.remote(order, self.cluster.threads))
        except ray.exceptions.OutOfMemoryError:
            return f"Ray stopped the worker that scanned it for want of memory, {_often()}; give fewer --jobs or fewer --max-images"
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
            return f"the workers that scanned it died, {_often()}; scan it again"
        except ray.exceptions.RayTaskError as error:
            return _told(error.cause)
        except Exception as error:
            raise lost(self.cluster.address, error) from error
        with contextlib.suppress(BanscanError):  # its file is missed, which is told
            stored.keep(Path(order.file), text)
        return None

    def end(self) -> None:
        """As `place.Hand` has it; the task ends with the connection."""
        self.ended = True


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
        raise UsageError(f"--ray {address}: nothing answers there ({_words(error)}); {EXPECTED}") from error


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
    # nothing is told to anybody else; a task that takes too much memory is not tried for ever
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": str(RETRIES), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    import ray

    with contextlib.ExitStack() as stack:
        try:
            ray.init(**_start(address, stack), log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except Exception as error:
            raise UsageError(f"--ray {address}: no cluster can be joined there ({_words(error)}); {EXPECTED}") from error
        stack.callback(ray.shutdown)
        yield _fitting(address, _rooms(ray.nodes()), at_once, threads, device, models)


def lost(address: str, error: BaseException) -> BanscanError:
    """The error for a cluster that is there no more."""
    return BanscanError(f"--ray {address}: the cluster was lost ({_words(error)}); start it, and give the same command again")


def _start(address: str, stack: contextlib.ExitStack) -> dict[str, Any]:
    """How a cluster is joined; the files of one that is started here are among those that are temporary."""
    if address != "local":
        return {"address": address}
    folder = tempfile.gettempdir()
    if len(folder) > FITTING:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="banscan-"))
    return {"num_cpus": processors.allowed(), "object_store_memory": STORE, "include_dashboard": False, "_temp_dir": folder}


def _rooms(nodes: Sequence[dict[str, Any]]) -> list[Room]:
    """The machines that take tasks."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    made = [Room(int(own.get("CPU", 0)), int(own.get("GPU", 0)), int(own.get("memory", 0))) for own in alive]
    return [room for room in made if room.processors]


def _fitting(address: str, rooms: list[Room], at_once: int | None, threads: int | None, device: str, models: Sequence[Path]) -> Cluster:
    """What each task is given, so that some machine has it."""
    gpus = int(device == "cuda" or (device == "auto" and any(room.gpus for room in rooms)))
    rooms = [room for room in rooms if room.gpus >= gpus]
    if not rooms:
        raise UsageError(f"--ray {address}: no machine there has {'a GPU' if gpus else 'processors'} for tasks; start one with some")
    hands = at_once or (sum(room.gpus for room in rooms) if gpus else len(rooms))
    every = threads or max(1, min(min(room.processors for room in rooms), sum(room.processors for room in rooms) // hands))
    memory = MEMORY + COPIES * max((model.stat().st_size for model in models if model.is_file()), default=0)
    if not any(room.processors >= every and room.memory >= memory for room in rooms):
        most = max(rooms, key=lambda room: (room.processors >= every, room.memory))
        raise UsageError(
            f"--ray {address}: a model needs {every} processors and {memory / 2**30:.1f} GB of a machine, and none there has both (at most "
            f"{most.processors} and {most.memory / 2**30:.1f} GB); give fewer --threads, or start a larger one"
        )
    return Cluster(address, hands, every, gpus, memory)


def _told(cause: Any) -> str:
    """What an error of a task says."""
    if isinstance(cause, task.EndedError):
        return f"{ending(cause.args[0])} ({_often()})"
    if isinstance(cause, BanscanError):
        return str(cause)
    return f"Ray could not run its task ({_words(cause)}); see that banscan and its packages are installed on all machines of the cluster"


def _often() -> str:
    return f"{RETRIES + 1} times"


def _words(error: BaseException) -> str:
    """The first line of what an error says."""
    text = getattr(error, "strerror", None) or str(error)
    return next((line.strip().rstrip(".") for line in text.splitlines() if line.strip()), type(error).__name__)
