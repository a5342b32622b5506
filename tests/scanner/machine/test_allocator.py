"""Memory that is freed stays with the process, so that its pages are not asked for again."""

import json
import os
import platform
import subprocess
import sys

import pytest

# pages asked for by 50 tensors of 8 MB one after the other, once two of them were there at a time as in a network
PROGRAM = """
import json, resource, sys
import torch
from banscan.scanner.machine import allocator
kept = allocator.keep() if sys.argv[1] == "keep" else None
for again in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        first, second = torch.ones(2 << 20), torch.ones(2 << 20)
        del first, second
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([kept, faults]))
"""


def asked(how: str, **environment: str) -> tuple[bool | None, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, env=clean | environment)
    kept, faults = json.loads(done.stdout)
    return kept, faults


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so soon")
def test_pages_are_asked_for_once() -> None:
    kept, faults = asked("keep")
    assert kept is True
    assert faults < 100
    assert asked("leave")[1] > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("said", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}])
def test_who_says_otherwise_is_heard(said: dict[str, str]) -> None:
    assert asked("keep", **said)[0] is False
