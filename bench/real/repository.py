"""Files of a git repository at one commit, read as blobs; nothing is checked out and no hook runs."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from banscan.errors import UsageError

HOST = "https://github.com"
# a repository's own settings decide nothing here, and nobody is asked for a password
SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never")
QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass(frozen=True)
class Repository:
    """A git directory, bare or with a working tree, and the commit that counts."""

    place: Path
    name: str
    commit: str

    def names(self) -> list[str]:
        """Every file's path."""
        return self._git("ls-tree", "-r", "-z", "--name-only", self.commit).decode().split("\0")[:-1]

    def read(self, path: str) -> bytes:
        """The content of one file.

        Raises:
            UsageError: the commit has no such file, or the copy here lacks its content.
        """
        return self._git("cat-file", "blob", f"{self.commit}:{path}")

    def _git(self, *arguments: str) -> bytes:
        done = _run("-C", str(self.place), *arguments)
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise UsageError(f"{self.name}@{self.commit[:12]}, {arguments[-1].partition(':')[2] or 'files'}: not there ({' '.join(told)})")
        return done.stdout


def find(name: str, commit: str, folder: Path, given: Path | None) -> Repository:
    """OWNER/NAME at a commit: one that lies in `given` or `folder` as OWNER+NAME, or else fetched into `folder`.

    Raises:
        UsageError: it is not there and cannot be fetched; says where to put it.
    """
    called = name.replace("/", "+")
    for base in (given, folder):
        for place in () if base is None else (base / called, base / called / "repo"):
            if (place / "HEAD").is_file() or (place / ".git").exists():
                repository = Repository(place, name, commit)
                if _run("-C", str(place), "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0:
                    return repository
    place = folder / called
    place.mkdir(parents=True, exist_ok=True)
    _run("init", "--quiet", "--bare", str(place))
    done = _run("-C", str(place), "fetch", "--quiet", "--depth", "1", f"{HOST}/{name}", commit)
    if done.returncode:
        raise UsageError(
            f"{name} at commit {commit}: cannot be fetched from {HOST}; put a clone of it into a folder as {called} and name that "
            "folder with --repositories"
        )
    return Repository(place, name, commit)


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *SAFE, *arguments], capture_output=True, check=False, env=os.environ | QUIET)
    except FileNotFoundError as error:
        raise UsageError("git is not installed; the models of repositories need it") from error
