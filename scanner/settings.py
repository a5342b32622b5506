"""The settings of a scan."""

from dataclasses import dataclass

from banscan.errors import UsageError

FORMS = ("normalised", "paper")
# generators take 64 bits, and seeds of their own are made from this one
SEEDS = 2**32


@dataclass(frozen=True)
class Settings:
    """How the noise is searched for and judged; where the defaults come from is in docs/method.md.

    Attributes:
        noise: "normalised", or "paper" for Eq. 3 and 4 as they stand, over all layers.
        eps: the strength of the noise. "normalised": its root mean square over the neurons, in units of each neuron's clean spread (an
            L2 ball); "paper": the bound on every delta and xi. None lets the model decide, see `search.strength`.
        steps: PGD steps; images: clean images drawn for each.
        restarts: independent searches; every statistic is given for each of them.
        depth: the share of neuron layers, counted from the image, that carry no noise.
        seed: decides the images, the starts and the batches.
        pixels: whether the searches over pixels run as well; they take the whole network many times, noise its deepest layers.
        targets: at most this many classes are searched for as targets.
    """

    noise: str = "normalised"
    eps: float | None = None
    steps: int = 8
    images: int = 64
    restarts: int = 4
    depth: float | None = None
    seed: int = 0
    pixels: bool = True
    targets: int = 100
    min_images: int = 50
    min_accuracy: float = 0.5

    def __post_init__(self) -> None:
        """Raises UsageError for values that no search can run with."""
        if self.noise not in FORMS:
            raise UsageError(f"--noise {self.noise}: unknown; expected {' or '.join(FORMS)}")
        if self.eps is not None and not 0 < self.eps <= 10:
            raise UsageError(f"--eps {self.eps}: expected a value above 0, at most 10")
        if self.eps is not None and self.noise == "paper" and self.eps >= 1:
            raise UsageError(f"--eps {self.eps}: with --noise paper expected below 1, so that no weight changes its sign")
        if self.depth is not None and not 0 <= self.depth < 1:
            raise UsageError(f"--depth {self.depth}: expected a share of the layers, from 0 up to but not 1")
        for option, count in (("--steps", self.steps), ("--restarts", self.restarts), ("images of a step:", self.images)):
            if count < 1:
                raise UsageError(f"{option} {count}: expected at least 1")
        if not 0 <= self.seed < SEEDS:
            raise UsageError(f"--seed {self.seed}: expected 0 to {SEEDS - 1}")

    @property
    def ball(self) -> str:
        """The set that noise is projected to: "linf" for Eq. 4, "l2" for the normalised form."""
        return "linf" if self.noise == "paper" else "l2"

    @property
    def mapping(self) -> bool:
        """Whether noise is searched for along a map of classes.

        The limit of what it may move is that for as much noise as the scan finds by itself, on the layers that it takes by itself. Stronger
        noise, or noise on more layers, moves more than that along a map in clean models.
        """
        return self.noise == "normalised" and self.eps is None and self.depth is None

    @property
    def layers_without(self) -> float:
        """`depth`, or what goes with the form: the paper's noise is on all layers."""
        return self.depth if self.depth is not None else 0.0 if self.noise == "paper" else 0.75
