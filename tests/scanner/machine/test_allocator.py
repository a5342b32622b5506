"""Memory that is freed stays with the process, so that its pages are not asked for again."""

import ctypes
import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch

from banscan.scanner.machine import allocator

CPU = torch.device("cpu")
# pages asked for by three tensors of 8 MB at a time, 50 times, once they were all there before
PROGRAM = """
import json, resource, sys
import torch
from banscan.scanner.machine import allocator
kept = allocator.keep(torch.device("cpu")) if sys.argv[1] == "keep" else None
for again in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        several = [torch.ones(2 << 20) for _ in range(3)]
        del several
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def held():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) >> 10
several = [torch.ones(2 << 20) for _ in range(3)]
several[0] = several[1] = None
before = held()
allocator.give_back(above=1 << 40)
little = before - held()
allocator.give_back(above=1 << 20)
print(json.dumps([kept, faults, little, before - held()]))
"""


class Glibc:
    """What is asked of it; `most` is the largest size of blocks that it takes."""

    def __init__(self, most: int) -> None:
        self.most, self.asked, self.trimmed = most, list[tuple[int, int]](), 0
        self.gnu_get_libc_version = "2.17"

    def mallopt(self, what: int, value: int) -> int:
        self.asked.append((what, value))
        return int(what != allocator.MMAP or value <= self.most)

    def malloc_trim(self, pad: int) -> int:
        self.trimmed += 1
        return 1


@pytest.fixture
def glibc(monkeypatch: pytest.MonkeyPatch) -> Glibc:
    made = Glibc(1 << 40)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: made)
    for name in (*allocator.VARIABLES, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    return made


def asked(how: str) -> tuple[bool | None, int, int, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, env=clean)
    kept, faults, little, freed = json.loads(done.stdout)
    return kept, faults, little, freed


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so soon")
def test_pages_are_asked_for_once_and_given_back_at_the_end() -> None:
    left = asked("leave")[1]
    if left < 1000:
        pytest.skip(f"the pages are so large here that {left} are asked for")
    kept, faults, little, freed = asked("keep")
    assert kept is True
    assert faults < left / 10
    # of 16 MB, in front of what is in use
    assert little < 2
    assert freed >= 14


@pytest.mark.parametrize(("most", "taken"), [(1 << 40, 64 << 20), (32 << 20, 32 << 20)])
def test_older_libraries_take_smaller_blocks(glibc: Glibc, most: int, taken: int) -> None:
    glibc.most = most
    assert allocator.keep(CPU)
    assert glibc.asked[-2:] == [(allocator.MMAP, taken), (allocator.TRIM, allocator.KEPT)]


@pytest.mark.parametrize("name", [*allocator.VARIABLES, *allocator.TUNABLES])
def test_who_says_otherwise_is_heard(glibc: Glibc, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    assert allocator.keep(CPU)
    allocator.give_back()
    assert glibc.trimmed == 1
    glibc.asked.clear()
    monkeypatch.setenv(*((name, "1") if name in allocator.VARIABLES else ("GLIBC_TUNABLES", f"{name}=1")))
    assert not allocator.keep(CPU)
    allocator.give_back()
    assert not glibc.asked
    assert glibc.trimmed == 1


def test_what_cannot_tell_how_much_is_free_gives_back_at_the_end_alone(glibc: Glibc) -> None:
    allocator.give_back(above=1)
    assert glibc.trimmed == 0
    allocator.give_back()
    assert glibc.trimmed == 1


def test_a_gpu_keeps_its_own_memory(glibc: Glibc) -> None:
    assert not allocator.keep(torch.device("cuda"))
    assert not glibc.asked


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_other_libraries_are_left_alone(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: Any) -> Any:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert not allocator.keep(CPU)
    allocator.give_back()
