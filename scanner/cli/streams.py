"""stdin, stdout and stderr as a command needs them, whatever the environment made of them."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from banscan.errors import BanscanError
from banscan.text import ENCODED, plain


def prepare(*, debug: bool) -> None:
    """Makes the streams take every text, and leaves stderr to banscan alone; with `debug`, libraries keep it and their warnings."""
    _open_closed()
    sys.stdout, sys.stderr = _Stdout(os.dup(1), sys.stdout), _Stderr(os.dup(2), sys.stderr)
    if debug:
        return
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = lambda unraisable: None
    # runtimes in C and C++ write there without asking, and what they quote comes from files and the environment
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def _open_closed() -> None:
    """A stream that was closed goes nowhere; left closed, the next file that is opened would take its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def say(text: str) -> None:
    """One line on stderr."""
    print(plain(text), file=sys.stderr, flush=True)


class _Stream(io.TextIOWrapper):
    """A stream with the encoding of the one before it, None where that was closed."""

    def __init__(self, number: int, before: TextIO | None) -> None:
        encoding = "utf-8" if before is None else before.encoding
        super().__init__(open(number, "wb"), encoding=encoding, errors=ENCODED, line_buffering=os.isatty(number))  # noqa: SIM115


class _Stderr(_Stream):
    """For progress and errors; when nobody can read them any more, work and exit codes go on without."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


class _Stdout(_Stream):
    """For reports: a reader who closes the pipe early has read enough; that there is no room is an error.

    Raises:
        BanscanError: it cannot be written.
    """

    def write(self, text: str) -> int:
        with _told():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with _told():
            super().flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        pass
    except OSError as error:
        raise BanscanError(f"stdout: cannot be written ({error.strerror or error}); nothing else went wrong") from error
