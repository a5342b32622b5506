"""How long a scan still takes: the passes that are left, at the rates of those that were made.

The work of a stage is known before it begins, in passes of an image through the whole network or a part of it. What a pass takes depends on
the machine and is measured as they come in, for each kind of pass by itself; of a kind that has not begun yet it is reckoned from the
others, by what the kinds cost in proportion.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from banscan.scanner.machine.progress import Counter, Progress

# kinds of passes: the answer to an image as it is, and in the searches' number format; a gradient towards the pixels; a gradient towards
# the noise; what is in front of the noise and what neurons do; an image of a tuning against noise, of a training from scratch, and of a
# planting
ANSWER, LOOK, GRADIENT, NOISE, NEURONS = "answer", "look", "gradient", "noise", "neurons"
TUNED, LEARNT, PLANTED = "tuned", "learnt", "planted"
# without a gradient a pass is about half a pass with one
HALF = 2
# seconds of its own after which a kind's rate is as much its own as that of the others
FIRM = 0.3
# seconds of passes before anything is said
BASIS = 0.2


@dataclass(frozen=True)
class Work:
    """One stage to come, by the name that progress has: so many passes of one kind."""

    stage: str
    kind: str
    passes: int


def counter(progress: Progress, work: Work) -> Counter:
    """Tells how far this work is."""
    return Counter(progress, work.stage, work.passes)


class Forecast:
    """Progress that knows what is still to come, and passes on what it is told; see `Work`."""

    def __init__(self, show: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self.show, self.now = show, now
        self.note = ""
        self.works: tuple[Work, ...] = ()
        self.costs: Mapping[str, float] = {}
        self.spent: dict[str, float] = {}
        self.passed: dict[str, int] = {}
        self.at: tuple[str, int, int] = ("", 0, 0)
        self.when = now()

    def plan(self, works: Sequence[Work], costs: Mapping[str, float], note: str = "") -> None:
        """What is still to come, in this order, in place of what was thought before.

        Args:
            costs: of a pass of each kind, in those of any one of them.
            note: why there is more of it than was thought, in a few words.
        """
        self.works, self.costs, self.note = tuple(works), costs, note
        self.at, self.when = ("", 0, 0), self.now()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = self.now()
        before, already, _ = self.at
        place = next((i for i, work in enumerate(self.works) if work.stage == stage), None)
        if place is not None:
            kind = self.works[place].kind
            if before == stage and done > already:
                self.spent[kind] = self.spent.get(kind, 0.0) + now - self.when
                self.passed[kind] = self.passed.get(kind, 0) + done - already
            # whatever was to come before this has come
            self.works = self.works[place:]
        self.at, self.when = (stage, done, total), now
        self.show(stage, done, total)

    def named(self, stage: str) -> str:
        """A stage, and why there is more to do than was thought where that is so."""
        return f"{self.note}: {stage}" if self.note else stage

    def left(self) -> float | None:
        """Seconds to the end of the scan; None while nothing tells."""
        known = sum(self.costs.get(kind, 0.0) * passed for kind, passed in self.passed.items())
        stage, done, total = self.at
        if sum(self.spent.values()) < BASIS or not known or not self.works or (stage and self.works[0].stage != stage):
            return None
        usual = sum(self.spent[kind] for kind in self.passed if kind in self.costs) / known
        seconds = 0.0
        for i, work in enumerate(self.works):
            passes = total - done if i == 0 and stage else work.passes
            guess = usual * self.costs[work.kind]
            rate = (self.spent.get(work.kind, 0.0) + FIRM) / (self.passed.get(work.kind, 0) + FIRM / guess)
            seconds += passes * rate
        return max(0.0, seconds - (self.now() - self.when))


def told(seconds: float) -> str:
    """In words, no more exact than it can be."""
    if seconds < 5:
        return "a few seconds left"
    if seconds < 57.5:
        return f"about {5 * round(seconds / 5)} s left"
    if seconds < 3570:
        return f"about {max(1, round(seconds / 60))} min left"
    return f"about {seconds / 3600:.1f} h left"
