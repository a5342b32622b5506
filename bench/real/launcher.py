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

# how often it is asked whether the command has ended, in seconds
EVERY = 0.2


def main() -> None:
    """Start the command in a process group of its own, wait, kill the group after LIMIT seconds."""
    result, limit, *command = sys.argv[1:]
    begun = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    late = False
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        if not late and time.monotonic() - begun > float(limit):
            late = True
            os.killpg(child.pid, signal.SIGKILL)
        time.sleep(EVERY)
    # Linux counts in kB
    code = None if late else os.waitstatus_to_exitcode(status)
    ended = {"code": code, "seconds": time.monotonic() - begun, "peak_mb": usage.ru_maxrss // 1024}
    with open(result, "w") as file:
        json.dump(ended, file)


if __name__ == "__main__":
    main()
