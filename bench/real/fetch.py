"""Brings the models of the table into a folder and compares them with their SHA-256."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from banscan.errors import BanscanError, UsageError
from banscan.files import whole
from bench.real import archive, repository
from bench.real.table import Model


@dataclass(frozen=True)
class Store:
    """The folder that everything is kept in: packages/, repositories/, models/NAME/ and images/NAME/.

    Attributes:
        folder: that folder.
        repositories: where clones were put by hand, as OWNER+NAME.
        data: the folder of the data sets that the zoo is trained on.
    """

    folder: Path
    repositories: Path | None = None
    data: Path | None = None

    def model(self, model: Model) -> Path:
        """Where the model file lies once it is fetched."""
        return self.folder / "models" / model.name / Path(model.path).name

    def repository(self, source: str) -> repository.Repository:
        """That of a source git:OWNER/NAME@COMMIT."""
        name, _, commit = source.removeprefix("git:").partition("@")
        return repository.find(name, commit, self.folder / "repositories", self.repositories)


def fetch(model: Model, store: Store) -> Path:
    """The model's file in the store, brought there unless it is there already.

    Raises:
        UsageError: it cannot be had, or is another file than the table says.
    """
    place = store.model(model)
    reader: Callable[[str], bytes] | None = None
    for path, sha256 in model.files:
        file = place.with_name(Path(path).name)
        if file.exists() and digest(file.read_bytes()) == sha256:
            continue
        reader = reader or _reader(model, store)
        content = reader(path)
        if digest(content) != sha256:
            raise UsageError(f"{model.name}: {path} of {model.source} has SHA-256 {digest(content)}; expected {sha256}")
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as written:
            written.write_bytes(content)
    return place


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _reader(model: Model, store: Store) -> Callable[[str], bytes]:
    """Reads a path of the model's source."""
    kind, _, rest = model.source.partition(":")
    if kind == "git":
        return store.repository(model.source).read
    if kind == "hand":
        raise UsageError(f"{model.name}: no package holds it in this form; {rest}, and put the files into {store.model(model).parent}")
    package = _package(kind, rest, store.folder / "packages")
    return lambda path: archive.member(package, path)


def _package(kind: str, rest: str, folder: Path) -> Path:
    """A package as its registry has it, in a folder of its own; a wheel, since those need no code of theirs to be read."""
    into = folder / rest.replace("/", "+")
    found = _archives(into)
    if not found:
        into.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(into), rest]
        npm = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(into), rest]
        try:
            done = subprocess.run(pip if kind == "pypi" else npm, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise UsageError(f"{rest}: npm is not installed; put the package into {into}") from error
        found = _archives(into)
        if done.returncode or not found:
            last = (done.stderr.strip().splitlines() or ["nothing came"])[-1]
            raise UsageError(f"{rest}: cannot be downloaded ({last}); put the package into {into}")
    return found[0]


def _archives(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix in (".whl", ".zip", ".tgz", ".gz")) if folder.is_dir() else []


def all_of(models: tuple[Model, ...], store: Store, told: Callable[[str], None]) -> list[Model]:
    """Fetches all; returns those that are there, and tells one sentence of each that is not."""
    there = []
    for model in models:
        try:
            fetch(model, store)
            there.append(model)
        except BanscanError as error:
            told(str(error))
    return there
