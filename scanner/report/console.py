"""Where rich prints to."""

from typing import TextIO

from rich.console import Console

# a report piped to a file has no terminal to ask for its width
PLAIN_WIDTH = 100


class _Plain(Console):
    """A console that leaves a closed pipe to whoever opened it; rich would exit with 1, which means backdoored here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(stream: TextIO) -> Console:
    """A console on a stream, as wide as the terminal where there is one."""
    return _Plain(file=stream, width=None if stream.isatty() else PLAIN_WIDTH)
