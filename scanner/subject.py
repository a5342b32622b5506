"""What every criterion is given: one model with the clean images that it is judged by, made ready for the searches."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from banscan.errors import EvidenceError
from banscan.importers import TracedModel
from banscan.scanner.effort import WHOLE, Effort
from banscan.scanner.extent import Extent
from banscan.scanner.inputs import checks
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.machine.progress import Counter, Progress, silent
from banscan.scanner.search.changes import Changes, of_pixels, softened
from banscan.scanner.search.gradient import astray
from banscan.scanner.search.neurons import Neurons
from banscan.scanner.search.noisy_model import attach, disagreement, layers, measure
from banscan.scanner.search.pixel_model import PixelModel, pixel_model
from banscan.scanner.settings import Settings

# what progress calls it
MEASURING = "measuring the neurons"


@dataclass(frozen=True)
class Subject:
    """One model and its clean images.

    Attributes:
        x: the images as the model takes them [N, ...]; `labels` [N], the model's own predictions where nobody gave any.
        logits: [N, C], without noise.
        searched: [T], the classes that are searched for as targets.
        precision: of the searches.
        effort: how much they do.
    """

    model: TracedModel
    preprocess: Preprocess
    x: Tensor
    labels: Tensor
    logits: Tensor
    searched: Tensor
    neurons: Neurons
    settings: Settings
    precision: torch.dtype
    effort: Effort = WHOLE

    @property
    def extent(self) -> Extent:
        """How much there is to search through."""
        return Extent(len(self.labels), len(self.searched), self.settings, self.effort)

    @property
    def restarts(self) -> int:
        """Independent searches for noise."""
        return self.extent.restarts

    @property
    def classes(self) -> int:
        """Of the model."""
        return self.logits.shape[1]

    @cached_property
    def softness(self) -> float:
        """Of the searches; see `changes.softened`."""
        return softened(self.logits)

    @cached_property
    def pixel_model(self) -> PixelModel:
        """The model as a function of pixels in [0, 1]."""
        return pixel_model(self.model, self.preprocess, self.precision)

    @cached_property
    def pixels(self) -> Tensor:
        """The images as pixels in [0, 1], [N, ...]."""
        return self.pixel_model.pixels(self.x.to(self.model.device))

    @cached_property
    def astray(self) -> str | None:
        """Why searches by the gradient towards the pixels see nothing; None where they do."""
        return astray(self.pixel_model, self.pixels)

    def searched_by(self, effort: Effort) -> "Subject":
        """The same with another effort; what was made once is kept."""
        other = replace(self, effort=effort)
        made = {name for name, kept in vars(Subject).items() if isinstance(kept, cached_property)}
        vars(other).update({name: value for name, value in vars(self).items() if name in made})
        return other

    def pixel_changes(self, radius: float) -> Changes:
        """What is added to the pixels of all images, within this root mean square."""
        return of_pixels(self.pixel_model, self.pixels, radius)


def prepare(
    model: TracedModel,
    preprocess: Preprocess,
    x: Tensor,
    labels: Tensor,
    logits: Tensor,
    settings: Settings,
    precision: torch.dtype,
    progress: Progress = silent,
) -> Subject:
    """Measures the neurons and computes once what lies in front of the noise.

    Raises:
        EvidenceError: there is no layer that could carry noise.
    """
    below = layers(model, settings.layers_without)
    if not below:
        raise EvidenceError("no layer of neurons lies below the classifier; a linear model has no place to look for a backdoor")
    count = Counter(progress, MEASURING, len(x) * ((settings.noise == "normalised") + 1 + (precision != torch.float32)))
    stats = measure(model, below, x, count) if settings.noise == "normalised" else None
    exact = attach(model, below, stats)
    prepared = exact.prepare(x, progress=count)
    checks.check_copy(disagreement(exact, prepared, logits))
    neurons = Neurons(exact, exact, prepared, prepared, labels)
    if precision != torch.float32:
        fast = attach(model, below, stats, precision)
        neurons = Neurons(fast, exact, fast.prepare(x, progress=count), prepared, labels)
    return Subject(model, preprocess, x, labels, logits, searched(logits, labels, settings), neurons, settings, precision)


def searched(logits: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    """All classes, or for models of very many the half with the largest mean logit on images of others and a random half.

    A target class has a raised logit on everything already without noise, so it is among the first; the others are its reference.
    """
    classes = logits.shape[1]
    if classes <= settings.targets:
        return torch.arange(classes)
    order = foreign_logits(logits, labels).argsort(descending=True)
    first, rest = order[: settings.targets // 2], order[settings.targets // 2 :]
    drawn = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(settings.seed))]
    return torch.cat((first, drawn[: settings.targets - len(first)])).sort().values


def foreign_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean logit [C] of every class over the images of other classes, for logits [N, C]."""
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, float("nan")).nanmean(0)
