"""Where rich prints to: texts are printed as they are, whatever of rich's own marks or names of emoji stands in them."""

import os
import re
import sys
from typing import Any, TextIO, cast

from rich.console import Console

# a report piped to a file has no terminal to ask for its width
PLAIN_WIDTH = 100
# at the end of a line, colours behind them or not
BLANKS = re.compile(r" +(?=(?:\x1b\[[0-9;]*m)*\n)")
# below this no table has room
NARROWEST = 20


class _Plain(Console):
    """A console that leaves a closed pipe to whoever opened it; rich would exit with 1, which says backdoored."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Stripped:
    """A stream without the blanks that tables have at the ends of their lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(BLANKS.sub("", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def console(stream: TextIO) -> Console:
    """A console on a stream, as wide as the terminal; elsewhere no line ends in blanks, and COLUMNS holds for standard output alone."""
    terminal = stream.isatty()
    asked = stream is sys.stdout and os.environ.get("COLUMNS", "").isdigit()
    file = stream if terminal else cast(TextIO, _Stripped(stream))
    made = _Plain(file=file, width=None if terminal or asked else PLAIN_WIDTH, markup=False, emoji=False)
    made.width = max(made.width, NARROWEST)
    return made
