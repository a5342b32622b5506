"""Many models on a Ray cluster of two workers on this machine, with a stub in place of the process that scans."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from banscan.errors import UsageError
from banscan.scanner.fleet import cluster
from banscan.scanner.fleet.driver import Room, Share, fitting
from tests.scanner.fleet.test_fleet import ROOT, begun, ended, models, place, results, start

__all__ = ["place"]
Node: TypeAlias = "subprocess.Popen[bytes]"
GB = 1 << 30
STUBBED = f"{Path(__file__).with_name('stubbed')}:{ROOT}"
# of every node and of banscan: the stub scans, nobody asks for a token, and a node that is lost is missed soon
COMMON = {"PYTHONPATH": STUBBED, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_health_check_period_ms": "1000"}


def free() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def node(log: Path, *options: str, **environment: str) -> Node:
    """A node of one processor in the foreground, in a process group of its own."""
    sizes = ("--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *sizes, *options]
    with log.open("ab") as stream:
        return subprocess.Popen(command, env={**os.environ, **environment}, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)


def until(there: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def killed(node: Node) -> None:
    """Ends a node with all that it has started, without a farewell."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture
def two(place: Path) -> Iterator[tuple[str, Node, Node]]:
    """The address of a cluster of two workers, and both of them."""
    pytest.importorskip("ray", reason="needs Ray: make test-frameworks, or pip install 'banscan[ray]'")
    log, port = place / "nodes", free()
    more = COMMON | {"STUB_LOG": str(place / "log"), "STUB_SECONDS": "2"}
    with ExitStack() as stack:
        head = node(log, "--head", f"--port={port}", "--include-dashboard=false", **more)
        stack.callback(killed, head)
        until(lambda: b"Ray runtime started" in log.read_bytes())
        second = node(log, f"--address=127.0.0.1:{port}", **more)
        stack.callback(killed, second)
        until(lambda: log.read_bytes().count(b"Ray runtime started") == 2)
        yield f"127.0.0.1:{port}", head, second


@pytest.mark.slow
def test_a_worker_is_killed(two: tuple[str, Node, Node], place: Path) -> None:
    """No model is lost, and none is scanned twice but the one under way; the next run scans only what failed by accident.

    When the whole cluster is lost it says so, keeps what is done, and ends with no verdict's code.
    """
    address, head, second = two
    folder = models(place, "clean", "broken", "clean", "backdoored", "clean", "clean", "clean", "dies")
    command = ("scan", folder, "--clean-dir", "imgs", "--results", "r", "--ray", address)
    with start(place, *command, stub=False, **COMMON) as process:
        until(lambda: process.poll() is not None or sum(begun(place).values()) >= 4)
        assert process.poll() is None, process.communicate()
        killed(second)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (1, "")
    lines = [line for line in out.splitlines() if line.startswith("[")]
    assert [line.partition("]")[0] for line in lines] == [f"[{i}/8" for i in range(1, 9)]
    assert out.splitlines()[-1] == "8 models: 1 backdoored, 2 failed, 5 no backdoor found"
    assert any("m001.onnx: Failed: not an ONNX model" in line for line in lines)
    assert any("m007.onnx: Failed: the process that scanned it was ended by SIGKILL" in line for line in lines)
    assert len({result["sha256"] for result in results(place / "r")}) == len(results(place / "r")) == 8
    counts = begun(place)
    dying = next(result["sha256"] for result in results(place / "r") if result["error"] and "SIGKILL" in result["error"])
    assert counts.pop(dying) >= 3
    assert len(counts) == 7
    assert sum(counts.values()) <= 8
    before = begun(place)
    assert ended(place, *command, stub=False, **COMMON)[0] == 1
    assert set(begun(place) - before) == {dying}
    (folder / "m008.onnx").write_text("clean new")
    for name in ("m003.onnx", "m007.onnx"):
        (folder / name).unlink()
    before = begun(place)
    with start(place, *command, stub=False, **COMMON) as process:
        until(lambda: process.poll() is not None or begun(place) != before)
        killed(head)
        out, err = process.communicate(timeout=300)
    # a verdict's code would be 1 here for Ray's own end only; whether the worker or the cluster is missed first is chance
    assert process.returncode == 2, out + err
    lost = r"^6 of 7 models are done and kept in r; .*\nError: --ray .*: the cluster was lost.*; start it, and give"
    assert re.search(lost, err) or re.search(r"m008\.onnx: Failed: the workers that scanned it died, 3 times; scan it again", out), (
        out + err
    )


@pytest.mark.slow
def test_one_of_its_own_and_too_little_memory(place: Path) -> None:
    """Ray's monitor stops what it finds too large; what was done before is kept, and so is what comes after."""
    pytest.importorskip("ray", reason="needs Ray: make test-frameworks, or pip install 'banscan[ray]'")
    folder = models(place, "clean", "clean")
    command = ("scan", folder, "--clean-dir", "imgs", "--ray", "local")
    common = COMMON | {"STUB_LOG": str(place / "log")}
    code, out, err = ended(place, *command, stub=False, STUB_SECONDS="1", **common)
    assert (code, out.splitlines()[-1], err) == (0, "2 models: 2 no backdoor found", "")
    (folder / "m000.onnx").write_text("clean new")
    little = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    code, out, err = ended(place, *command, stub=False, STUB_SECONDS="20", **common, **little)
    assert (code, err) == (2, "")
    assert "m000.onnx: Failed: Ray stopped the worker that scanned it for want of memory, 3 times; give fewer --jobs" in out
    assert out.splitlines()[-1] == "2 models: 1 failed, 1 no backdoor found"
    assert len(results(place / "banscan-results")) == 3
    # the driver, and with it the cluster, goes when banscan is killed
    with start(place, *command, stub=False, STUB_SECONDS="60", **common) as process:
        seen = sum(begun(place).values())
        until(lambda: sum(begun(place).values()) > seen)
        process.kill()
        process.communicate()
    until(lambda: not left(place), 60)


def left(place: Path) -> list[str]:
    """The stub's processes that scan for this test."""
    found = []
    for own in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"STUB_LOG={place / 'log'}\0".encode() in own.read_bytes() and b"stub.py" in own.with_name("cmdline").read_bytes():
                found.append(own.parent.name)
        except OSError:
            continue
    return found


@pytest.fixture
def _there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: object())
    monkeypatch.delenv("RAY_USE_TLS", raising=False)


@pytest.mark.usefixtures("_there")
@pytest.mark.parametrize("address", ["", "x", "there", "ray://there:10001", "host:port", ":6379", "127.0.0.1:", "host:123456"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match=f"--ray {address}: expected HOST:PORT of a Ray cluster, auto for .*, or local"):
        cluster.check(address, "auto")


@pytest.mark.usefixtures("_there")
def test_a_dead_address() -> None:
    port = free()
    with pytest.raises(UsageError, match=rf"--ray 127\.0\.0\.1:{port}: nothing answers there \(Connection refused\); expected HOST:PORT"):
        cluster.check(f"127.0.0.1:{port}", "auto")
    with pytest.raises(UsageError, match="nothing answers there"):
        cluster.check("127.0.0.1:99999", "auto")
    with pytest.raises(UsageError, match="--device cuda:1: Ray says which GPU a model gets; give --device cuda"):
        cluster.check("local", "cuda:1")


@pytest.mark.usefixtures("_there")
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None], ids=["another", "closed", "silent"])
def test_another_service_at_the_port(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for minutes."""
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    done = threading.Event()

    def serve(listening: socket.socket) -> None:
        with listening.accept()[0] as other:
            other.recv(1000)
            if answer is None:
                done.wait(10)
            else:
                other.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with pytest.raises(UsageError, match=r"(something else than Ray|nothing) answers there"):
            cluster.check(f"127.0.0.1:{listening.getsockname()[1]}", "auto")
        done.set()
        thread.join()


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--ray local: needs a package more: pip install 'banscan\[ray\]'"):
        cluster.check("local", "auto")


@pytest.mark.parametrize(
    ("rooms", "asked", "share"),
    [
        # one machine, one model; two, two at once
        ([Room(8, 0, 32 * GB)], {}, Share(1, 8, 0, 2 * GB)),
        ([Room(8, 0, 32 * GB), Room(4, 0, 8 * GB)], {}, Share(2, 4, 0, 2 * GB)),
        ([Room(8, 0, 32 * GB), Room(8, 0, 32 * GB)], {"at_once": 8}, Share(8, 2, 0, 2 * GB)),
        ([Room(8, 0, 32 * GB)], {"at_once": 100}, Share(100, 1, 0, 2 * GB)),
        ([Room(8, 0, 32 * GB)], {"threads": 3}, Share(1, 3, 0, 2 * GB)),
        # GPUs: a model on each
        ([Room(16, 4, 64 * GB), Room(16, 0, 64 * GB)], {}, Share(4, 4, 1, 2 * GB)),
        ([Room(16, 4, 64 * GB), Room(16, 0, 64 * GB)], {"device": "cpu"}, Share(2, 16, 0, 2 * GB)),
    ],
)
def test_what_a_task_is_given(rooms: list[Room], asked: dict[str, Any], share: Share) -> None:
    assert fitting(rooms, **{"at_once": None, "threads": None, "device": "auto", "memory": 2 * GB, **asked}) == share


@pytest.mark.parametrize(
    ("rooms", "asked", "match"),
    [
        ([], {}, "no machine there has processors for tasks"),
        ([Room(4, 0, 8 * GB)], {"device": "cuda"}, "no machine there has a GPU for tasks"),
        ([Room(4, 0, 8 * GB)], {"threads": 8}, r"a model needs 8 processors and 2.0 GB .* \(at most 4 and 8.0 GB\)"),
        ([Room(4, 0, GB), Room(2, 0, GB)], {}, "a model needs 2 processors and 2.0 GB .*; give fewer --threads, or start a larger one"),
    ],
)
def test_what_no_machine_has(rooms: list[Room], asked: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        fitting(rooms, **{"at_once": None, "threads": None, "device": "auto", "memory": 2 * GB, **asked})
