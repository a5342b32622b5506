"""Versions of banscan that are timed beside each other: this checkout, and the files of an earlier commit."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import rows

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tree:
    """Files of banscan in `folder`, as of a commit; `beside` where they are what this checkout is compared with."""

    folder: Path
    commit: str
    beside: bool = False

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables under which Python takes banscan from there, and neither settings nor threads from whoever called."""
        own = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        return own | {"PYTHONPATH": str(self.folder), "BANSCAN_CONFIG": ""}

    def check(self) -> None:
        """Raises RuntimeError where Python takes banscan from elsewhere."""
        command = [sys.executable, "-c", "import banscan; print(banscan.__file__)"]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True)
        if not Path(done.stdout.strip()).resolve().is_relative_to(self.folder.resolve()):
            raise RuntimeError(f"{sys.executable} takes banscan from {done.stdout.strip()} and not from {self.folder}")


@contextmanager
def trees(commit: str | None, beside: str | None) -> Iterator[tuple[Tree, ...]]:
    """This checkout, as of `commit` where git cannot tell it, and the files of the commit `beside` until the end."""
    here = Tree(ROOT, commit or rows.commit())
    with TemporaryDirectory() as place:
        found = (here,) if beside is None else (here, Tree(Path(place), _short(beside), beside=True))
        if beside is not None:
            packed = _git("archive", "--format=tar", beside)
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(place, filter="tar")
        for tree in found:
            tree.check()
        yield found


def _short(commit: str) -> str:
    return _git("rev-parse", "--short", commit).decode().strip()


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout
