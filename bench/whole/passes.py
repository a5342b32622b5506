"""How many passes of an image the searches of a scan take in a network for large images with 100 classes; a count, whatever the machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from banscan.scanner import aside, race
from banscan.scanner.criteria import registry
from banscan.scanner.effort import FIRST_LOOK, GLANCE, WHOLE, Effort
from banscan.scanner.extent import Extent
from banscan.scanner.machine.forecast import HALF, NOISE, Work
from banscan.scanner.settings import Settings

IMAGES, CLASSES = 500, 100
INTRO = f"""## Passes

What the searches take of a network whose passes are dear ([method.md](method.md#effort)), such as MobileNetV2 or ResNet50 at 224×224, with
{CLASSES} classes and {IMAGES} images: passes of one image through the whole network, one with a gradient counted as {HALF}, and, behind a
plus, passes with a gradient through the part that carries noise, its deepest quarter of layers. A count says nothing of seconds, but it
does not depend on what else a machine does. *All classes* is what every scan took before there was a race. A second look searches again
only what is close, all of it at most.
"""


@dataclass(frozen=True)
class Column:
    """One look at the model: its effort, and whether it is of the classes of a race, which it begins or follows."""

    title: str
    effort: Effort
    raced: bool = False
    begins: bool = False

    def works(self) -> dict[str, tuple[Work, ...]]:
        """The work by what asks for it."""
        settings = Settings()
        searched = race.most(CLASSES, settings) if self.raced else CLASSES
        extent = Extent(IMAGES, searched, settings, self.effort, begun=self.begins)
        begun = {"race": race.work(extent, CLASSES)} if self.begins else {}
        return begun | {c.name: c.work(extent) for c in registry.CRITERIA} | {"untargeted": aside.work(extent)}


COLUMNS = (
    Column("first look, all classes", FIRST_LOOK),
    Column("a glance now", GLANCE, raced=True, begins=True),
    Column("whole, all classes", WHOLE),
    Column("second look now, at most", FIRST_LOOK, raced=True),
)


def passes(works: Sequence[Work]) -> tuple[int, int]:
    """Through the whole network, and through the part with noise."""
    weights = {"gradient": HALF}
    return sum(w.passes * weights.get(w.kind, 1) for w in works if w.kind != NOISE), sum(w.passes for w in works if w.kind == NOISE)


def table() -> str:
    """Markdown: a row for every search, a column for every look."""
    found = [column.works() for column in COLUMNS]
    names = [name for name in dict.fromkeys(name for works in found for name in works) if any(works.get(name) for works in found)]
    names.sort(key=lambda name: name != "race")
    lines = [f"| search | {' | '.join(c.title for c in COLUMNS)} |", f"| --- |{' --- |' * len(COLUMNS)}"]
    lines += [f"| {name} | {' | '.join(_told(*passes(works.get(name, ()))) for works in found)} |" for name in names]
    lines.append(f"| all | {' | '.join(_told(*passes([w for own in works.values() for w in own])) for works in found)} |")
    return "\n".join(lines) + "\n"


def _told(network: int, noise: int) -> str:
    return " ".join([f"{network:,}"] * (network > 0) + [f"+ {noise:,}"] * (noise > 0))
