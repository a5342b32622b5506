"""Progress of models that are scanned side by side, on stderr: a bar for each of them, or a line a minute."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from banscan.scanner.cli.console import BAR, BARE, NAME, Lines, watched
from banscan.scanner.machine.forecast import told
from banscan.text import plain


@dataclass
class Board:
    """Where it is shown: on bars, or in lines where `make` makes none.

    Attributes:
        at: what is being done of each model, how much of it is done, how much there is, and the seconds that its scan still takes.
    """

    make: Callable[[], Progress] | None
    lines: Lines = field(default_factory=Lines)
    bars: Progress | None = None
    at: dict[str, tuple[str, int, int, float | None]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, model: str, stage: str, done: int, total: int, left: float | None) -> None:
        """How far the scan of a model is; called from any thread."""
        with self.lock:
            self.at[model] = stage, done, total, left
            if self.make is None:
                self.lines(f"{_called(model, self.at)}: {stage}", done, total, lambda: left)
            elif self.bars is not None:
                self._draw(self.bars)

    @contextmanager
    def without(self, model: str) -> Iterator[None]:
        """No bar of a model that is done, and none at all while its line is written."""
        with self.lock:
            self.at.pop(model, None)
            self.stop()
            try:
                yield
            finally:
                self.start()

    def start(self) -> None:
        """Shows the bars, below all that was written."""
        if self.make is not None:
            # new ones: those that were stopped would go up over what was written since
            self.bars = self.make()
            self._draw(self.bars)
            self.bars.start()

    def stop(self) -> None:
        """Takes them away."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None

    def _draw(self, bars: Progress) -> None:
        width = bars.console.width
        for i, (model, (stage, done, total, left)) in enumerate(self.at.items()):
            beside = len(f" {total}/{total} {told(0)}") + (BAR + 1 if width >= BARE else 0)
            most = max(NAME, width - beside)
            name = plain(f"{plain(_called(model, self.at), max(NAME, most - len(stage) - 2))}: {stage}", most)
            if i == len(bars.tasks):
                bars.add_task(name, left="")
            bars.update(bars.task_ids[i], description=name, completed=done, total=total, left="" if left is None else told(left))


def _called(model: str, among: Iterable[str]) -> str:
    """The file's name, with as many of its folders as tell it from the other models."""
    parts, others = Path(model).parts, [Path(other).parts for other in among if other != model]
    for take in range(1, len(parts)):
        if all(other[-take:] != parts[-take:] for other in others):
            return str(Path(*parts[-take:]))
    return model


def _bars(console: Console) -> Progress:
    bar = (BarColumn(BAR),) if console.width >= BARE else ()
    return Progress(
        TextColumn("{task.description}", markup=False),
        *bar,
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
    )


@contextmanager
def board() -> Iterator[Board]:
    """The place for it; it goes away with the last model."""
    console = watched()
    made = Board(None if console is None else partial(_bars, console))
    made.start()
    try:
        yield made
    finally:
        made.stop()
