"""A command that is run with a limit, and what is measured of it."""

import sys
from pathlib import Path

import pytest

from bench import child
from bench.launcher import LOOK


def test_a_command_has_a_limit_and_its_memory_is_measured(tmp_path: Path) -> None:
    big = [sys.executable, "-c", "import sys; x = bytearray(300 << 20); print('out'); print('first\\nlast', file=sys.stderr); sys.exit(3)"]
    ended = child.run(big, 60, tmp_path)
    assert (ended.code, ended.out, ended.last) == (3, "out\n", "last")
    assert 300 < ended.peak_mb < 400
    # what this process holds is not counted
    held = bytearray(500 << 20)
    assert child.run([sys.executable, "-c", "pass"], 60, tmp_path).peak_mb < 100
    del held
    # its own children are stopped with it
    waits = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    late = child.run([sys.executable, "-c", waits], 1, tmp_path)
    assert late.code is None
    assert late.seconds < 30


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not say what processes share")
def test_what_several_processes_share_counts_once(tmp_path: Path) -> None:
    """200 MB that parent and child share after a fork, and 100 MB of the child's own."""
    forks = "import os, time; x = b'1' * (200 << 20); pid = os.fork(); y = 0 if pid else b'1' * (100 << 20)"
    waits = f"time.sleep({2.5 * LOOK}); pid and os.waitpid(pid, 0)"
    ended = child.run([sys.executable, "-c", f"{forks}; {waits}"], 60, tmp_path)
    assert ended.code == 0
    assert 300 < ended.together_mb < 400
