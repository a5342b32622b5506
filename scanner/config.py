"""The settings of a scan."""

from dataclasses import dataclass

from banscan.errors import UsageError

FORMS = ("normalised", "paper")


@dataclass(frozen=True)
class Settings:
    """How the noise is searched for and judged; the defaults come from `bench/probe.py` (docs/method.md).

    Attributes:
        noise: "normalised", or "paper" for Eq. 3 as it stands.
        eps: bound on every delta and xi, relative to the neuron's weights and bias (or clean spread and mean).
        steps: PGD steps of eps / steps each; images: clean images drawn per step.
        restarts: independent searches; every statistic is given for each of them.
        depth: the share of neuron layers, counted from the image, that carry no noise.
        seed: decides the images, the starts and the batches.
        targets: at most this many classes are searched for as targets.
    """

    noise: str = "normalised"
    eps: float = 0.6
    steps: int = 8
    images: int = 64
    restarts: int = 8
    depth: float = 0.5
    seed: int = 0
    targets: int = 100
    min_images: int = 50
    min_accuracy: float = 0.5

    def __post_init__(self) -> None:
        """Raises UsageError for values that no search can run with."""
        if self.noise not in FORMS:
            raise UsageError(f"--noise {self.noise}: unknown; expected {' or '.join(FORMS)}")
        for option, value, low, high in (
            ("--eps", self.eps, 0.0, 1.0),
            ("--depth", self.depth, 0.0, 0.95),
        ):
            if not low <= value <= high or (option == "--eps" and value == 0):
                raise UsageError(f"{option} {value}: expected a value from {low} to {high}")
        for option, count in (("--steps", self.steps), ("--restarts", self.restarts)):
            if count < 1:
                raise UsageError(f"{option} {count}: expected at least 1")
