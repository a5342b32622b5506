"""What every command has in common: a place for what is temporary, progress on stderr, reports that appear whole."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from banscan.errors import BanscanError
from banscan.files import Scratch, whole
from banscan.files import check as check_place
from banscan.scanner.cli import config
from banscan.scanner.cli.streams import say
from banscan.scanner.inputs import kept
from banscan.scanner.machine.forecast import Forecast, told
from banscan.text import ENCODED, plain


@contextmanager
def work() -> Iterator[None]:
    """A folder of its own for everything temporary, that of libraries and child processes included; it is removed whatever happens.

    Raises:
        BanscanError: there is no place for one.
    """
    try:
        scratch = Scratch()
    except OSError as error:
        reason = error.strerror or error
        raise BanscanError(f"no folder for temporary files can be made ({reason}); let TMPDIR name one that can be written to") from error
    folder = tempfile.tempdir = str(scratch.place)
    # torch makes a folder there as soon as it traces; libraries in C and child processes know the variable only
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        scratch.remove()


# columns of the bar, the least for the name of what is being done, and a terminal below which the bar has no room
BAR, NAME, BARE = 12, 8, 64
# of what is said of the time left
LONGEST = "a few seconds left of this"


def unknown() -> None:
    """The time left, where nothing tells."""


class Lines:
    """Progress as lines, the first after a minute."""

    def __init__(self, seconds: float = 60) -> None:
        self.seconds = seconds
        self.begin = self.last = time.monotonic()

    def __call__(self, stage: str, done: int, total: int, left: Callable[[], float | None] = unknown) -> None:
        now = time.monotonic()
        if now - self.last >= self.seconds:
            self.last = now
            seconds = left()
            end = "" if seconds is None else f"; {told(seconds)}"
            say(f"{(now - self.begin) / 60:.0f} min: {stage}, {done / max(1, total):.0%}{end}")


def watched() -> Console | None:
    """The terminal behind stderr, where there is one that can show bars, whatever FORCE_COLOR says."""
    console = Console(stderr=True)
    return console if sys.stderr.isatty() and not console.is_dumb_terminal else None


@contextmanager
def bars() -> Iterator[Any]:
    """Progress on stderr: a bar where someone watches it; elsewhere, as in the log of a CI system, a line a minute."""
    console = watched()
    if console is None:
        lines = Lines()
        written = Forecast(lambda stage, done, total: lines(written.named(stage), done, total, written.left))
        yield written
        return
    # the name of what is being done gives way to how far it is and how long it takes
    name_of = TextColumn("{task.description}", markup=False)
    bar = (BarColumn(BAR),) if console.width >= BARE else ()
    forecast = Forecast(lambda stage, done, total: show(stage, done, total))
    with Progress(name_of, *bar, MofNCompleteColumn(), _Left(forecast), console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def show(stage: str, done: int, total: int) -> None:
            beside = len(f" {total}/{total} {LONGEST}") + (BAR + 1 if bar else 0)
            name = _fitted(forecast.named(stage), max(NAME, console.width - beside))
            if progress.tasks[0].description != name:
                progress.reset(task, description=name)
            progress.update(task, completed=done, total=total)

        yield forecast


def _fitted(name: str, most: int) -> str:
    """A name in so many characters: of several parts, what is being done within others, the last are left."""
    parts = name.split(": ")
    while len(parts) > 1 and len(name) > most:
        del parts[0]
        name = f"… {': '.join(parts)}"
    return plain(name, most)


class _Left(ProgressColumn):
    """The time left: of the whole where that can be told, else of what is being done."""

    max_refresh = 0.5

    def __init__(self, forecast: Forecast) -> None:
        super().__init__()
        self.forecast = forecast

    def render(self, task: Task) -> Text:
        left = self.forecast.left()
        if left is not None:
            return Text(told(left))
        own = task.time_remaining
        return Text(f"{told(own)} of this" if own and not self.forecast.works else "")


@contextmanager
def destination(output: Path | None) -> Iterator[TextIO]:
    """stdout, or a file that appears under its name only when it is whole.

    Raises:
        BanscanError: it cannot be written.
    """
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    with whole(output) as place, place.open("w", encoding="utf-8", errors=ENCODED) as stream:
        yield stream


def check_output(output: Path | None, files: Iterable[Path | None], folders: Iterable[Path], *, beside: bool = False) -> None:
    """Raises UsageError, before any work, for a file that could not be written or that is one of those that are read (`kept.check`), that
    of the settings among them."""
    if output is not None:
        check_place(output)
    kept.check(output, (*files, config.place(os.environ)), folders, beside=beside)
