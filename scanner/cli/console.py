"""What every command has in common: progress on stderr, reports that appear whole, errors in one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from banscan.errors import BanscanError, UsageError
from banscan.files import whole


class Failure(click.ClickException):
    """A BanscanError as one line on stderr with its exit code."""

    def __init__(self, error: BanscanError) -> None:
        super().__init__(str(error))
        self.code = error.exit_code


@contextmanager
def failures() -> Iterator[None]:
    """Makes a `Failure` of every error that a user can do something about."""
    try:
        yield
    except BanscanError as error:
        raise Failure(error) from None
    except (MemoryError, RuntimeError) as error:
        # torch has no exception of its own for a CPU's memory
        if not isinstance(error, MemoryError) and not any(told in str(error) for told in ("out of memory", "can't allocate memory")):
            raise
        raise Failure(BanscanError("out of memory; give fewer images with --max-images")) from None


@contextmanager
def bars() -> Iterator[Any]:
    """A progress bar on stderr, only where someone watches it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        yield advance


@contextmanager
def destination(output: Path | None) -> Iterator[TextIO]:
    """stdout, or a file that appears under its name only when it is whole. A reader who closes the pipe early changes no exit code."""
    if output is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with whole(output) as place, place.open("w", encoding="utf-8") as stream:
        yield stream


def check_writable(output: Path | None) -> None:
    """Raises UsageError, before any work, for a file that could not be written."""
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError(f"{output}: cannot be written; expected a file in a folder that exists")
