"""How much a scan has to search through."""

from dataclasses import dataclass

from banscan.scanner.effort import Effort, at_most
from banscan.scanner.settings import Settings


@dataclass(frozen=True)
class Extent:
    """What the work of a search follows from.

    Attributes:
        images: clean images.
        searched: classes that are searched for as targets.
        effort: how much the searches do.
        begun: whether the first patches were tried already.
    """

    images: int
    searched: int
    settings: Settings
    effort: Effort
    begun: bool = False

    @property
    def restarts(self) -> int:
        """Independent searches for noise."""
        return at_most(self.settings.restarts, self.effort.noise.restarts)

    @property
    def drawn(self) -> int:
        """Images that a step of the search for noise draws."""
        return min(at_most(self.settings.images, self.effort.noise.images), self.images)

    @property
    def held(self) -> int:
        """The third of the images that measures what was sought on the others."""
        return self.images - round(self.images * 2 / 3)
