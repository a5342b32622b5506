"""How searches tell how far they are."""

from collections.abc import Callable

# stage, work done, work in all
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Tells nothing."""


class Counter:
    """Adds up the image passes of one stage."""

    def __init__(self, progress: Progress, stage: str, total: int) -> None:
        self.progress, self.stage, self.total, self.done = progress, stage, total, 0
        progress(stage, 0, total)

    def __call__(self, passes: int) -> None:
        self.done = min(self.total, self.done + passes)
        self.progress(self.stage, self.done, self.total)
