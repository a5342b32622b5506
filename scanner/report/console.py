"""Where rich prints to: texts are printed as they are, whatever of rich's own marks or names of emoji stands in them."""

from typing import TextIO

from rich.console import Console

# a report piped to a file has no terminal to ask for its width
PLAIN_WIDTH = 100
# below this no table has room
NARROWEST = 20


class _Plain(Console):
    """A console that leaves a closed pipe to whoever opened it; rich would exit with 1, which says backdoored."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(stream: TextIO) -> Console:
    """A console on a stream, as wide as the terminal where there is one."""
    made = _Plain(file=stream, width=None if stream.isatty() else PLAIN_WIDTH, markup=False, emoji=False)
    made.width = max(made.width, NARROWEST)
    return made
