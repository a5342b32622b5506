"""What one repair has to do: the images to tune on and those to measure on, where the trigger sends them, and how to tune."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from banscan.errors import EvidenceError
from banscan.importers import TracedModel
from banscan.scanner.findings import ONE, Verdict
from banscan.scanner.inputs import checks
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.repair import answers
from banscan.scanner.repair.fold import every_fifth, mirrors
from banscan.scanner.repair.settings import ANP, FINETUNE, Tuning, plain, unguided
from banscan.scanner.scan import Examined
from banscan.scanner.search import pixel_model
from banscan.scanner.search.pixel_model import Limits


@dataclass(frozen=True)
class Job:
    """One model and its clean images, as they are tuned with.

    Attributes:
        how: the settings of Eq. 8, as suited to the method, the verdict and the images.
        x: the images as the model takes them [N, ...]; `labels` [N], the model's own predictions where nobody gave any.
        held: [N], True for images that are kept from the tuning, to measure on.
        limits: what black and white pixels are to the model.
        aims: [classes], where a trigger sends the images of each class; None where noise only raises the loss (Eq. 4).
    """

    model: TracedModel
    preprocess: Preprocess
    method: str
    how: Tuning
    x: Tensor
    labels: Tensor
    held: Tensor
    limits: Limits
    aims: Tensor | None

    @cached_property
    def tuned_on(self) -> tuple[Tensor, Tensor]:
        """The images that the tuning sees, and their labels."""
        return self.x[~self.held], self.labels[~self.held]

    @cached_property
    def measured_on(self) -> tuple[Tensor, Tensor]:
        """The images that it does not see, and their labels."""
        return self.x[self.held], self.labels[self.held]


def prepare(examined: Examined, clean: CleanSet, method: str, how: Tuning) -> Job:
    """The job that a scan leads to, with these images; arguments and errors are those of `mend`."""
    model, preprocess, verdict = examined.model, preprocess_of(examined), examined.report.verdict
    assert model is not None
    x = preprocess(clean.images, model.input.layout)
    limits = pixel_model.limits(model, preprocess)
    labels = answers.predictions(model, {}, x) if clean.labels is None else clean.labels
    aims = None if method == ANP else aimed(verdict, model.classes)
    job = Job(model, preprocess, method, how, x, labels, every_fifth(labels), limits, aims)
    seen, theirs = job.tuned_on
    checks.check_images(len(seen), len(theirs.unique()), examined.report.settings.min_images)
    how = plain(how) if method == FINETUNE or not how.weight else how
    how = how if aims is not None else unguided(how)
    return replace(job, how=replace(how, flip=mirrors(model, seen, theirs)))


def preprocess_of(examined: Examined) -> Preprocess:
    """The preprocessing that the scan found.

    Raises:
        EvidenceError: it found none, so nobody knows what the model should be tuned on.
    """
    if examined.preprocess is None:
        raise EvidenceError(f"{examined.report.model.path}: cannot be tuned ({examined.report.verdict.reason})")
    return examined.preprocess


def aimed(verdict: Verdict, classes: int) -> Tensor | None:
    """Where the scan says that a trigger sends the images of each class [classes]; None where it says nothing of it.

    Several targets take turns. A class that no part of a map is known of stays what it is.
    """
    if verdict.kind == ONE and verdict.targets:
        targets = torch.tensor(verdict.targets)
        return targets[torch.arange(classes) % len(targets)]
    if not verdict.mapping:
        return None
    attacked = dict(verdict.mapping)
    return torch.tensor([attacked.get(c, c) for c in range(classes)])
