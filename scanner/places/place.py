"""Where models live beside this machine, and how they come here: by the client library of each place, an optional package."""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from banscan.errors import UsageError
from banscan.scanner.places import hub, registry

if TYPE_CHECKING:
    from banscan.scanner.findings import Report


@dataclass(frozen=True)
class Kind:
    """A kind of place.

    Attributes:
        package: of its client, and `extra`, what installs it with banscan.
        parse: what stands behind the scheme → a place, which is a text as the user writes it; UsageError for what names none.
        fetch: that and a folder → the model's file, and its full name with the revision.
    """

    package: str
    extra: str
    parse: Callable[[str], object]
    fetch: Callable[[str, Path], tuple[Path, str]]


KINDS = {"hf": Kind("huggingface_hub", "hf", hub.parse, hub.fetch), "models": Kind("mlflow", "mlflow", registry.parse, registry.fetch)}
# a path keeps one of two slashes
FORM = re.compile(rf"({'|'.join(KINDS)}):/+(.*)", re.DOTALL)


@dataclass(frozen=True)
class Local:
    """A model's file on this machine; where it was fetched from, with the revision, or None."""

    path: Path
    origin: str | None = None

    def named(self, report: "Report") -> "Report":
        """A report on it that says where it is from."""
        return report if self.origin is None else replace(report, model=replace(report.model, origin=self.origin))


def elsewhere(model: str | Path) -> bool:
    """Whether this names a model that has to be fetched."""
    return FORM.fullmatch(str(model)) is not None


def check(model: str | Path) -> None:
    """Raises UsageError for a name of a model elsewhere that cannot be, or whose client is not installed; nothing is fetched."""
    kind, rest = _kind(model)
    named = kind.parse(rest)
    if find_spec(kind.package) is None:
        raise UsageError(f"{named}: needs the client of that place; install it with: pip install 'banscan[{kind.extra}]'")


@contextmanager
def local(model: str | Path) -> Iterator[Local]:
    """A model on this machine, for as long as it is read: one that is elsewhere is fetched.

    Only its file and weights beside it are, as bytes; nothing of it is run, and it is read as any file is.

    Raises:
        UsageError, ModelError, BanscanError: it cannot be fetched; see `hub.fetch` and `registry.fetch`.
    """
    if not elsewhere(model):
        yield Local(Path(model))
        return
    check(model)
    kind, rest = _kind(model)
    with tempfile.TemporaryDirectory(prefix="banscan-") as folder:
        yield Local(*kind.fetch(rest, Path(folder)))


def _kind(model: str | Path) -> tuple[Kind, str]:
    found = FORM.fullmatch(str(model))
    assert found is not None
    return KINDS[found[1]], found[2]
