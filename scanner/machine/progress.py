"""How searches tell how far they are."""

from collections.abc import Callable

# stage, work done, work in all
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Tells nothing."""


def of_part(progress: Progress) -> Progress:
    """The same for one of several things that are done: what is left of it is not what is left of the whole."""
    return lambda stage, done, total: progress(stage, done, total)


class Counter:
    """Adds up the image passes of one stage; where it takes more of them than was thought, there are as many in all."""

    def __init__(self, progress: Progress, stage: str, total: int) -> None:
        self.progress, self.stage, self.total, self.done = progress, stage, total, 0
        progress(stage, 0, total)

    def __call__(self, passes: int) -> None:
        self.done += passes
        self.expect(self.total)

    def expect(self, total: int) -> None:
        """So many of them are thought to be in all."""
        self.total = max(self.done, total)
        self.progress(self.stage, self.done, self.total)

    def end(self) -> None:
        """No more of them will come."""
        self.expect(self.done)
