"""Progress of models that are scanned side by side, on stderr: a bar for each of them, or a line a minute."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from banscan.scanner.cli.console import BAR, BARE, NAME, Lines
from banscan.text import plain

# of the numbers beside a name
NUMBERS = 16


@dataclass
class Board:
    """Where it is shown: on bars, or in lines."""

    bars: Progress | None
    lines: Lines = field(default_factory=Lines)
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def show(self, model: str, stage: str, done: int, total: int) -> None:
        """How far the scan of a model is; called from any thread."""
        name = f"{Path(model).name}: {stage}"
        if self.bars is None:
            self.lines(plain(name), done, total)
            return
        width = self.bars.console.width
        name = plain(name, max(NAME, width - NUMBERS - (BAR if width >= BARE else 0)))
        if model not in self.tasks:
            self.tasks[model] = self.bars.add_task(name)
        self.bars.update(self.tasks[model], description=name, completed=done, total=total)

    @contextmanager
    def without(self, model: str) -> Iterator[None]:
        """No bar of a model that is done, and none at all while its line is written."""
        if self.bars is None:
            yield
            return
        if model in self.tasks:
            self.bars.remove_task(self.tasks.pop(model))
        self.bars.stop()
        try:
            yield
        finally:
            self.bars.start()


@contextmanager
def board() -> Iterator[Board]:
    """The place for it; it goes away with the last model."""
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:  # whatever FORCE_COLOR says
        yield Board(None)
        return
    bar = (BarColumn(BAR),) if console.width >= BARE else ()
    with Progress(TextColumn("{task.description}", markup=False), *bar, MofNCompleteColumn(), console=console, transient=True) as bars:
        yield Board(bars)
