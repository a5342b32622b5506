"""Runs one command with a limit of time and writes down how it ended: python launcher.py RESULT LIMIT COMMAND...

A process of its own, and a small one: on Linux a program begins with the largest memory of the process that started it, so one that holds
images cannot measure what it starts.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

# how often it is asked whether the command has ended, and what all its processes hold, in seconds
EVERY, LOOK = 0.05, 1.0


def held(pid: int) -> int:
    """kB of memory that a process and all that come from it have between them: what several share counts once (Pss)."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    family = {pid}
    while more := {own for own, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for own in family:
        with suppress(OSError):
            lines = Path(f"/proc/{own}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    """Start the command in a process group of its own, wait, kill the group after LIMIT seconds."""
    result, limit, *command = sys.argv[1:]
    begun = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    late, looked, most = False, begun, 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        if not late and time.monotonic() - begun > float(limit):
            late = True
            os.killpg(child.pid, signal.SIGKILL)
        if time.monotonic() - looked > LOOK:
            looked, most = time.monotonic(), max(most, held(child.pid))
        time.sleep(EVERY)
    # Linux counts in kB
    code = None if late else os.waitstatus_to_exitcode(status)
    ended = {"code": code, "seconds": time.monotonic() - begun, "peak_mb": usage.ru_maxrss // 1024, "together_mb": most // 1024}
    with open(result, "w") as file:
        json.dump(ended, file)


if __name__ == "__main__":
    main()
