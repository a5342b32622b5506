"""The process that talks to a Ray cluster for `cluster.py`: every order becomes a task, tried again where it dies.

Models and images have to lie where every machine has them under the same path; results come back as the values of tasks. The process ends,
and with it all that it asked for, when its stdin is closed.
"""

import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from banscan.errors import BanscanError, UsageError
from banscan.scanner.fleet import channel, task
from banscan.scanner.fleet.cluster import EXPECTED
from banscan.scanner.fleet.place import Order
from banscan.scanner.fleet.process import ending
from banscan.scanner.machine import threads as processors

# a task is tried so often again after its worker or its process died
RETRIES = 2
# bytes of Ray's store of objects; results are small
STORE = 100 << 20
# characters of a folder below which Ray can make its sockets
FITTING = 40
# Ray tells nobody of its use, does not try for ever what takes too much memory, and looks for no package manager
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": str(RETRIES), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@dataclass(frozen=True)
class Room:
    """What a machine of the cluster has for tasks."""

    processors: int
    gpus: int
    memory: int


@dataclass(frozen=True)
class Share:
    """So many tasks at once; what each of them is given."""

    hands: int
    threads: int
    gpus: int
    memory: int


def main() -> None:
    """Does what comes in until nothing more does."""
    asked = json.loads(sys.argv[2])
    told = channel.opened()
    with contextlib.ExitStack() as stack:
        try:
            share = _joined(asked, stack)
        except UsageError as error:
            _say(told, {"error": str(error)})
            return
        _say(told, {"hands": share.hands, "threads": share.threads})
        _serve(share, told)


def _serve(share: Share, told: TextIO) -> None:
    import ray

    how = {"num_cpus": share.threads, "num_gpus": share.gpus, "memory": share.memory, "max_retries": RETRIES}
    scan: Any = ray.remote(**how, retry_exceptions=[task.EndedError])(task.scan)
    lock = threading.Lock()

    def answer(number: int, order: Order) -> None:
        document: dict[str, Any] = {"number": number, "text": None, "why": None, "lost": None}
        document |= _answered(scan, order, share.threads)
        with lock:
            _say(told, document)

    for line in sys.stdin:
        given = json.loads(line)
        threading.Thread(target=answer, args=(given["number"], Order(**given["order"])), daemon=True).start()


def _answered(scan: Any, order: Order, threads: int) -> dict[str, str]:
    """What came of one order: the text of its result, why there is none, or why there is no cluster any more."""
    import ray

    try:
        return {"text": ray.get(scan.remote(order, threads))}
    except ray.exceptions.OutOfMemoryError:
        return {"why": f"Ray stopped the worker that scanned it for want of memory, {_often()}; give fewer --jobs or fewer --max-images"}
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
        return {"why": f"the workers that scanned it died, {_often()}; scan it again"}
    except ray.exceptions.RayTaskError as error:
        return {"why": _told(error.cause)}
    except Exception as error:
        return {"lost": _words(error)}


def _joined(asked: dict[str, Any], stack: contextlib.ExitStack) -> Share:
    """What a task is given in the cluster that was asked for; it is left when the stack is closed.

    Raises:
        UsageError: there is none, or no machine of it has what a task needs.
    """
    os.environ.update(ENVIRONMENT)
    import ray

    try:
        ray.init(**_start(asked["address"], stack), log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except Exception as error:
        raise UsageError(f"no cluster can be joined there ({_words(error)}); {EXPECTED}") from error
    stack.callback(ray.shutdown)
    return fitting(rooms(ray.nodes()), **{name: asked[name] for name in ("at_once", "threads", "device", "memory")})


def _start(address: str, stack: contextlib.ExitStack) -> dict[str, Any]:
    """How a cluster is joined; the files of one that is started here are among those that are temporary."""
    if address != "local":
        return {"address": address}
    folder = tempfile.gettempdir()
    if len(folder) > FITTING:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="banscan-", ignore_cleanup_errors=True))
    return {"num_cpus": processors.allowed(), "object_store_memory": STORE, "include_dashboard": False, "_temp_dir": folder}


def rooms(nodes: Sequence[dict[str, Any]]) -> list[Room]:
    """The machines that take tasks."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    made = [Room(int(own.get("CPU", 0)), int(own.get("GPU", 0)), int(own.get("memory", 0))) for own in alive]
    return [room for room in made if room.processors]


def fitting(found: Sequence[Room], *, at_once: int | None, threads: int | None, device: str, memory: int) -> Share:
    """What each task is given, so that some machine has it.

    Raises:
        UsageError: none has.
    """
    gpus = int(device == "cuda" or (device == "auto" and any(room.gpus for room in found)))
    found = [room for room in found if room.gpus >= gpus]
    if not found:
        raise UsageError(f"no machine there has {'a GPU' if gpus else 'processors'} for tasks; start one with some")
    hands = at_once or (sum(room.gpus for room in found) if gpus else len(found))
    every = threads or max(1, min(min(room.processors for room in found), sum(room.processors for room in found) // hands))
    if not any(room.processors >= every and room.memory >= memory for room in found):
        most = max(found, key=lambda room: (room.processors >= every, room.memory))
        raise UsageError(
            f"a model needs {every} processors and {memory / 2**30:.1f} GB of a machine, and none there has both (at most "
            f"{most.processors} and {most.memory / 2**30:.1f} GB); give fewer --threads, or start a larger one"
        )
    return Share(hands, every, gpus, memory)


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
    """What the first cause of an error says, in one sentence."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.partition(". ")[0].rstrip(".")


def _say(told: TextIO, document: dict[str, Any]) -> None:
    told.write(f"{json.dumps(document)}\n")
    told.flush()


if __name__ == "__main__":
    main()
