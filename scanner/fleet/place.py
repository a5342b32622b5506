"""Where models are scanned: on this machine (`process.py`) or on those of a Ray cluster (`cluster.py`)."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Order:
    """A model to scan, as it is handed on.

    Attributes:
        model, images: their paths, relative to `folder`.
        request: as `request.plain` has it.
        sha256: of the model; `asked`, all else that decides the result.
        file: that the result is written to.
    """

    model: str
    images: str
    folder: str
    request: dict[str, Any]
    sha256: str
    asked: dict[str, Any]
    file: str


class Hand(Protocol):
    """One that scans models one after another."""

    def scan(self, order: Order) -> str | None:
        """Has a model scanned and what came of it written to its file; why there is no such file, where somebody knows.

        Raises:
            BanscanError: no model can be scanned any more.
        """

    def end(self) -> None:
        """Stops it, whatever it is doing; called from another thread."""


class Place(Protocol):
    """Where models are scanned, so many at once, each in so many threads."""

    @property
    def hands(self) -> int: ...

    @property
    def threads(self) -> int: ...

    def hand(self) -> Hand:
        """A new one."""
