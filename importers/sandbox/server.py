"""The process that opens model files: it loads torch once, and for every file makes a child of itself that is confined before it begins.

python server.py PACKAGE, which `client` starts: requests on stdin and how each child ended on stdout, a line of JSON each;
all that is large lies in a folder that the client made for the request. It ends, and kills its child, when stdin is closed; while it still
loads, and has no child, SIGTERM ends it.
"""

import errno
import gc
import importlib.util
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

GIVEN, ANSWER, OUTCOME = "given", "answer", "outcome.json"
# what torch's tracer loads where it is there and does without where it is not
UNUSED = ("torch.distributed.fsdp", "triton")
# parts of messages that mean that there was not enough memory
MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "bad allocation")


def main() -> None:
    """Serves until the client is gone."""
    warm()
    # who ends this process closes its stdin as well; it must not go before its child
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _say({"ready": True})
    while line := sys.stdin.buffer.readline():
        _say(_watched(json.loads(line)))


def _say(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def warm() -> None:
    """Loads, and goes through once, what reading needs: a child would do it again for every file. No threads, which it would lack.

    What is loaded stays: nothing of it is looked through for garbage, neither now nor in the children, which would copy every page of it.
    """
    gc.disable()
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(UNUSED))
    import torch
    from torch import nn

    from banscan.importers import carried
    from banscan.importers.model import Input, Source
    from banscan.importers.normal.normalise import normalise
    from banscan.importers.normal.trace import export
    from banscan.importers.sandbox import confinement, tasks

    assert confinement
    assert tasks.TASKS
    torch.set_num_threads(1)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    network = nn.Sequential(*layers, nn.Softmax(1)).eval().requires_grad_(False)
    source = Source(Path("warm"), "", "", None, "", None)
    carried.plain(normalise(export(source.path, network, torch.zeros(2, 3, 8, 8)), Input("image", "NCHW", 3, 8, 8), source))
    gc.freeze()


def _watched(request: dict[str, Any]) -> dict[str, Any]:
    """Runs one request in a child, and says how that ended: its status, or that its time was up."""
    ended, alive = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ended)
        _child(request)
    os.close(alive)
    watch = select.poll()
    watch.register(ended, select.POLLHUP)
    watch.register(sys.stdin.fileno(), select.POLLHUP)
    last = time.monotonic() + request["wall"]
    timed_out = False
    while True:
        ready = [fd for fd, _ in watch.poll(max(0.0, last - time.monotonic()) * 1000)]
        if ended in ready:
            break
        if sys.stdin.fileno() in ready or time.monotonic() >= last:
            timed_out = True
            os.kill(child, signal.SIGKILL)
            break
    os.close(ended)
    return {"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "timed_out": timed_out}


def _child(request: dict[str, Any]) -> None:
    """Confines itself, does the task and leaves answer and outcome in the folder; never returns."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.enable()
        folder = Path(request["folder"])
        outcome = _outcome(request, folder)
        (folder / OUTCOME).write_text(json.dumps(outcome))
    finally:
        os._exit(0)


def _outcome(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    import torch

    from banscan.errors import BanscanError
    from banscan.importers.sandbox import confinement, tasks
    from banscan.importers.sandbox.budget import Budget

    try:
        os.chdir(request["cwd"])  # paths are those that the user gave
        tempfile.tempdir = str(folder)
        given = torch.load(folder / GIVEN, weights_only=True) if request["given"] else {}
        torch.set_num_threads(request["budget"]["threads"])
        confinement.limit(Budget(**request["budget"]))
        unconfined = confinement.confine(map(Path, request["readable"]), [folder])
        answer = tasks.TASKS[request["task"]](**request["arguments"], **given)
        torch.save(answer, folder / ANSWER)
        return {"unconfined": unconfined}
    except BaseException as error:
        if _no_memory(error):
            return {"error": "memory"}
        if isinstance(error, BanscanError):
            return {"error": type(error).__name__, "text": str(error)}
        return {"error": "fault", "text": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def _no_memory(error: BaseException | None) -> bool:
    """Whether this is, or comes from, a lack of memory; every library has its own words for that."""
    seen: list[BaseException] = []  # some errors name themselves as their cause
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or any(told in str(error) for told in MEMORY):
            return True
        error = error.__cause__
    return False


def _adopt(package: Path) -> None:
    """Makes `banscan` the package in this folder, installed or not: the isolated Python does not look where its parent did."""
    spec = importlib.util.spec_from_file_location("banscan", package / "__init__.py", submodule_search_locations=[str(package)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["banscan"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["banscan"])


if __name__ == "__main__":
    _adopt(Path(sys.argv[1]))
    main()
    os._exit(0)  # torch would be taken apart first, which whoever ends this process would wait for
