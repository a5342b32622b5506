"""What every criterion is given: one model with the clean images that it is judged by, made ready for the searches."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from banscan.errors import EvidenceError
from banscan.importers import TracedModel
from banscan.scanner.effort import WHOLE, Effort
from banscan.scanner.extent import Extent
from banscan.scanner.inputs import checks
from banscan.scanner.inputs.preprocess import Inputs, Preprocess
from banscan.scanner.machine.progress import Counter, Progress, silent
from banscan.scanner.search.changes import Changes, of_pixels, softened
from banscan.scanner.search.doubles import double
from banscan.scanner.search.gradient import DEAR, EACH, astray, turned
from banscan.scanner.search.neurons import Neurons
from banscan.scanner.search.noisy_model import attach, disagreement, layers, measure, rounded
from banscan.scanner.search.patch import Rung
from banscan.scanner.search.pixel_model import PixelModel, pixel_model
from banscan.scanner.search.taps import costly
from banscan.scanner.settings import Settings

# deviations of the logits between images that a number format of the searches may move them by without any noise
ROUND = 0.25
# what progress calls it
MEASURING = "measuring the neurons"
# classes that are drawn at least; see `criteria.base.MIN_CLASSES`
LEAST_DRAWN = 5
# images that are made into pixels at once
AT_ONCE = 64


@dataclass(frozen=True)
class Subject:
    """One model and its clean images.

    Attributes:
        x: the images as the model takes them [N, ...]; `labels` [N], the model's own predictions where nobody gave any.
        logits: [N, C], without noise.
        searched: [T], the classes that are searched for as targets.
        drawn: [T], which of these were drawn at random and stand for all classes; None where all of them do. See `race`.
        rung: the patches that a race began with, towards these classes; None where there was none.
        precision: of the searches.
        effort: how much they do.
    """

    model: TracedModel
    preprocess: Preprocess
    x: Inputs
    labels: Tensor
    logits: Tensor
    searched: Tensor
    neurons: Neurons
    settings: Settings
    precision: torch.dtype
    effort: Effort = WHOLE
    drawn: Tensor | None = None
    rung: Rung | None = None

    @property
    def extent(self) -> Extent:
        """How much there is to search through."""
        return Extent(len(self.labels), len(self.searched), self.settings, self.effort, begun=self.rung is not None)

    @property
    def standing(self) -> Tensor:
        """Those of the classes searched for that stand for all."""
        return self.searched if self.drawn is None else self.searched[self.drawn]

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
        # all of it has its place at once, as in `NoisyModel.prepare`
        found = torch.empty(len(self.x), *self.x[:1].shape[1:], device=self.model.device)
        for place, part in zip(found.split(AT_ONCE), self.x.split(AT_ONCE), strict=True):
            place.copy_(self.pixel_model.pixels(part.to(self.model.device)))
        return found

    @cached_property
    def astray(self) -> str | None:
        """Why searches by the gradient towards the pixels see nothing of a class that is searched for; None where they see all."""
        return self.misled or turned(self.pixel_model, self.pixels, self.searched, DEAR if self.costly else EACH)

    @cached_property
    def misled(self) -> str | None:
        """Why they see nothing for whatever class, which can be asked before it is known which are searched for."""
        return astray(self.pixel_model, self.pixels)

    @cached_property
    def double(self) -> str | None:
        """Which class hides how clearly images go to another; None where none does."""
        return double(self.logits)

    @property
    def costly(self) -> bool:
        """Whether a pass through the network is dear; see `looks.ladder`."""
        return costly(self.model.module.graph)

    def searched_by(self, effort: Effort) -> "Subject":
        """The same with another effort; what was made once is kept, the first patches only for the same effort."""
        return self.altered(effort=effort, rung=self.rung if effort == self.effort else None)

    def altered(self, **changes: Any) -> "Subject":
        """The same with another effort, or with other classes that are searched for; what was made once is kept."""
        other = replace(self, **changes)
        made = {name for name, kept in vars(Subject).items() if isinstance(kept, cached_property)}
        # which was asked of the classes that were searched for before
        made -= {"astray"} if "searched" in changes else set()
        vars(other).update({name: value for name, value in vars(self).items() if name in made})
        return other

    def pixel_changes(self, radius: float) -> Changes:
        """What is added to the pixels of all images, within this root mean square."""
        return of_pixels(self.pixel_model, self.pixels, radius)


def prepare(
    model: TracedModel,
    preprocess: Preprocess,
    x: Inputs,
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
    count = Counter(progress, MEASURING, len(x) * passes(model, settings, precision))
    stats = measure(model, below, x, count) if settings.noise == "normalised" else None
    exact = attach(model, below, stats)
    fast = exact if precision == torch.float32 else attach(model, below, stats, precision)
    prepared = fast.prepare(x, progress=count)
    if fast is not exact and not rounded(fast, prepared, logits) <= ROUND:
        # a network, as made to hide in them, whose answers such numbers lose would look calm to every search
        precision, fast = torch.float32, exact
        prepared = exact.prepare(x, progress=count)
    # in front of the noise the search's own numbers do where they are dear: in float32 they take much of the time and most of the memory
    read = prepared if fast is exact or costly(model.module.graph) else exact.prepare(x, progress=count)
    checks.check_copy(disagreement(exact, read, logits))
    neurons = Neurons(fast, exact, prepared, read, labels)
    chosen, drawn = searched(logits, labels, settings)
    return Subject(model, preprocess, x, labels, logits, chosen, neurons, settings, precision, drawn=drawn)


def passes(model: TracedModel, settings: Settings, precision: torch.dtype) -> int:
    """Through the network, of each image, to make it ready."""
    twice = precision != torch.float32 and not costly(model.module.graph)
    return (settings.noise == "normalised") + 1 + twice


def searched(logits: Tensor, labels: Tensor, settings: Settings) -> tuple[Tensor, Tensor | None]:
    """All classes, or for models of very many a random half of what may be searched for, and those with the largest mean logit on others.

    A target class has a raised logit on everything already without noise, so it is among the first; those that were drawn are its
    reference.

    Returns:
        The classes [T], and which of them were drawn [T]; None where there are all.
    """
    classes = logits.shape[1]
    if classes <= settings.targets:
        return torch.arange(classes), None
    # with fewer none could be told to stand out among them
    drawn = sample(classes, max(settings.targets // 2, min(settings.targets, LEAST_DRAWN)), settings.seed)
    order = foreign_logits(logits, labels).argsort(descending=True)
    first = order[~torch.isin(order, drawn)]
    return together(drawn, first[: settings.targets - len(drawn)])


def sample(classes: int, count: int, seed: int) -> Tensor:
    """So many of the classes at random; more of them are the same and others."""
    return torch.randperm(classes, generator=torch.Generator().manual_seed(seed))[:count]


def together(drawn: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Classes that were drawn with those that something puts in front, in order, and which of them were drawn."""
    chosen = torch.cat((drawn, first)).unique()
    return chosen, torch.isin(chosen, drawn)


def foreign_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean logit [C] of every class over the images of other classes, for logits [N, C]."""
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, float("nan")).nanmean(0)
