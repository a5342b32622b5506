"""The settings of a scan, each declared once: the command line, the checks and the calibration are made from the declarations."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from banscan.errors import UsageError
from banscan.scanner.machine.size import size
from banscan.scanner.machine.threads import MOST

FORMS = ("normalised", "paper")
EFFORTS = ("quick", "standard", "thorough")
PRECISIONS = ("auto", "float32", "bfloat16")
# how a model may be deployed: quantised statically or dynamically, or in half precision
DEPLOYMENTS = ("int8", "int8-dynamic", "fp16")
# generators take 64 bits, and seeds of their own are made from this one
SEEDS = 2**32


@dataclass(frozen=True)
class Declared:
    """What is said of a setting where it is declared.

    Attributes:
        help: one line for the command line.
        flag: its name there; "a/b" for a switch that is on with --a and off with --b.
        metavar: what stands for its value there.
        choices: the values it may have.
        least, most: bounds of a number; `open_least`, `open_most` where they are excluded themselves.
        decisive: whether a score means something else with another value, so that a calibration holds for this one only.
        unset: what stands for its default there, where that is no value.
    """

    help: str
    flag: str
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    least: float | None = None
    most: float | None = None
    open_least: bool = False
    open_most: bool = False
    decisive: bool = False
    unset: str | None = None

    def check(self, value: Any) -> None:
        """Raises UsageError for a value that cannot be."""
        option = f"--{self.flag.partition('/')[0]}"
        if self.choices is not None and value not in self.choices:
            raise UsageError(f"{option} {value}: unknown; expected {' or '.join(self.choices)}")
        if value is None or (self.least is None and self.most is None):
            return
        low = self.least is None or (value > self.least if self.open_least else value >= self.least)
        high = self.most is None or (value < self.most if self.open_most else value <= self.most)
        if not (low and high):
            raise UsageError(f"{option} {_shown(value)}: expected {self.bounds}")

    @property
    def bounds(self) -> str:
        """What is expected of a number."""
        low = None if self.least is None else f"{'above' if self.open_least else 'at least'} {_shown(self.least)}"
        high = None if self.most is None else f"{'below' if self.open_most else 'at most'} {_shown(self.most)}"
        return ", ".join(part for part in (low, "a finite number" if self.most == inf else high) if part)


def _shown(value: float) -> str:
    """A number as a user writes it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def setting(default: Any, explained: str, flag: str, *, decisive: bool, **more: Any) -> Any:
    """A field of a class of settings; arguments as in `Declared`. Whether it is decisive has to be said of every one."""
    return dataclasses.field(default=default, metadata={"declared": Declared(explained, flag, decisive=decisive, **more)})


def declared(kind: Any) -> Iterator[tuple[dataclasses.Field[Any], Declared]]:
    """The fields of a class of settings, or of an object of it, with their declarations."""
    for field in dataclasses.fields(kind):
        yield field, field.metadata["declared"]


def check(settings: Any) -> None:
    """Raises UsageError for the first setting with a value that cannot be."""
    for field, declaration in declared(settings):
        declaration.check(getattr(settings, field.name))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a backdoor is searched for and judged; where the defaults come from is in docs/method.md.

    Attributes:
        noise: "normalised", or "paper" for Eq. 3 and 4 as they stand, over all layers.
        eps: the strength of the noise. "normalised": its root mean square over the neurons, in units of each neuron's clean spread (an
            L2 ball); "paper": the bound on every delta and xi. None lets the model decide, see `search.strength.strength`.
        steps: PGD steps; images: clean images drawn for each.
        restarts: independent searches; every statistic is given for each of them.
        depth: the share of neuron layers, counted from the image, that carry no noise; None for that of the form.
        seed: decides the images, the starts and the batches.
        pixels: whether the searches over pixels run as well; they take the whole network many times, noise its deepest layers.
        effort: "quick", a first look; "standard", then whole searches where it was close; "thorough", these alone. See `looks`.
        targets: at most this many classes are searched for as targets.
        controls: whether copies of the model, some without what it may hold and some with planted backdoors, are scanned as well; None for
            those that are unlike all clean models that the scores are known of.
        min_images, min_accuracy: what the clean images must come to for a verdict.
    """

    noise: str = setting("normalised", "normalised, or paper for Eq. 3 as printed.", "noise", decisive=True, metavar="FORM", choices=FORMS)
    eps: float | None = setting(
        None, "Strength of the noise.", "eps", decisive=True, least=0, open_least=True, most=10, unset="the model decides"
    )
    steps: int = setting(8, "PGD steps.", "steps", decisive=True, least=1)
    images: int = setting(64, "Clean images drawn for a step.", "step-images", decisive=True, least=1)
    restarts: int = setting(4, "Independent searches for noise; a first look makes one.", "restarts", decisive=True, least=1)
    depth: float | None = setting(
        None, "Share of the layers without noise.", "depth", decisive=True, least=0, most=1, open_most=True, unset="0.75; 0 for paper"
    )
    seed: int = setting(0, "Same seed, same device: same numbers.", "seed", decisive=False, least=0, most=SEEDS - 1)
    pixels: bool = setting(True, "Also search pixels; without, neuron noise and logits alone.", "pixels/no-pixels", decisive=True)
    effort: str = setting(
        "standard", "quick, standard (more where it is close) or thorough.", "effort", decisive=True, metavar="NAME", choices=EFFORTS
    )
    targets: int = setting(100, "Search for at most this many classes.", "targets", decisive=True, least=1)
    controls: bool | None = setting(
        None,
        "Also scan copies of the model with planted backdoors.",
        "controls/no-controls",
        decisive=False,
        unset="where no such model was measured",
    )
    min_images: int = setting(50, "Fewer clean images give no verdict.", "min-images", decisive=False, least=1)
    min_accuracy: float = setting(0.5, "A lower clean accuracy gives no verdict.", "min-accuracy", decisive=False, least=0, most=1)

    def __post_init__(self) -> None:
        """Raises UsageError for values that no search can run with."""
        check(self)
        if self.eps is not None and self.noise == "paper" and self.eps >= 1:
            raise UsageError(f"--eps {self.eps}: with --noise paper expected below 1, so that no weight changes its sign")

    @property
    def ball(self) -> str:
        """The set that noise is projected to: "linf" for Eq. 4, "l2" for the normalised form."""
        return "linf" if self.noise == "paper" else "l2"

    @property
    def layers_without(self) -> float:
        """`depth`, or what goes with the form: the paper's noise is on all layers."""
        return self.depth if self.depth is not None else 0.0 if self.noise == "paper" else 0.75


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the model and the images are read, and where the scan runs.

    Attributes:
        labels: a CSV of file,label rows, file relative to the folder of images; takes the place of class folders.
        classes: a file with one class name a line, in the model's order, for folders called by class name.
        max_images: at most this many images are read.
        logits: name of the output that holds them, for an ONNX file with several.
        size: height and width of the images, where the model leaves them free; the first image's otherwise.
        preprocess: "auto" to try the usual ones and take what the images support best, or a name of these.
        mean, std, scale, bgr: take the place of those of the named one.
        precision: of the search: "float32", "bfloat16", or "auto" for bfloat16 where it is fast. Final numbers are float32.
        device: "auto" for a GPU where there is one, "cpu", "cuda" or "cuda:N".
        threads: of the CPU, also after the scan; None for what torch has (the command line: OMP_NUM_THREADS, or all that may be used).
        memory: a scan takes as much as on a machine, or a GPU, that has so much ("3GB"); None for 8 GB, or less where there is less,
            and for all of a GPU's.
    """

    labels: Path | None = setting(None, "CSV of file,label instead of class folders.", "labels", decisive=False, metavar="FILE")
    classes: Path | None = setting(None, "Class names, one a line, in the model's order.", "classes", decisive=False, metavar="FILE")
    max_images: int = setting(500, "Read at most this many images.", "max-images", decisive=False, least=1)
    logits: str | None = setting(
        None, "The output that holds the logits, in an ONNX file with several.", "logits", decisive=False, metavar="NAME"
    )
    size: int | None = setting(None, "Image size, where the model leaves it free.", "size", decisive=False, least=1)
    preprocess: str = setting("auto", "auto, unit, raw, signed, imagenet, cifar10, …", "preprocess", decisive=False, metavar="NAME")
    mean: tuple[float, ...] | None = setting(None, "Own mean, after scaling.", "mean", decisive=False, metavar="R,G,B")
    std: tuple[float, ...] | None = setting(None, "Own standard deviation.", "std", decisive=False, metavar="R,G,B")
    scale: float | None = setting(None, "Own factor on pixels 0 to 255.", "scale", decisive=False)
    bgr: bool = setting(False, "Channels in BGR order.", "bgr", decisive=False)
    precision: str = setting("auto", "Of the search.", "precision", decisive=False, choices=PRECISIONS)
    device: str = setting("auto", "auto (a GPU where there is one), cpu, cuda, cuda:N.", "device", decisive=False, metavar="NAME")
    threads: int | None = setting(
        None, "CPU threads.", "threads", decisive=False, least=1, most=MOST, unset="OMP_NUM_THREADS, or all that may be used"
    )
    memory: str | None = setting(
        None, "Scan as on a machine that has so much, as 3GB.", "memory", decisive=False, metavar="SIZE", unset="8 GB, all of a GPU's"
    )

    def __post_init__(self) -> None:
        """Raises UsageError for values that cannot be."""
        check(self)
        if self.memory is not None:
            size(self.memory)

    @property
    def room(self) -> int | None:
        """Bytes of `memory`."""
        return None if self.memory is None else size(self.memory)

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width that are asked for."""
        return None if self.size is None else (self.size, self.size)
