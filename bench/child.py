"""A command with a limit of time, and what it took."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, None where the limit stopped it.
        seconds: wall-clock time.
        peak_mb: the largest memory of it or any process that it waited for, in MB.
        together_mb: the most that it and all that it started were seen to have at one time, in MB; looked at every second, 0 before the
            first look.
        out, err: what it wrote.
    """

    code: int | None
    seconds: float
    peak_mb: int
    together_mb: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of what it complained of."""
        return (self.err.strip().splitlines() or [""])[-1].strip()


def run(command: Sequence[str], limit: float, folder: Path, environment: Mapping[str, str] | None = None) -> Ended:
    """Runs a command in `folder`, with this environment or our own; after `limit` seconds it is killed with all that it started."""
    with tempfile.NamedTemporaryFile("r") as result:
        words = [sys.executable, "-I", str(LAUNCHER), result.name, str(limit), *command]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", cwd=folder, env=environment, check=True)
        return Ended(**json.load(result), out=done.stdout, err=done.stderr)
