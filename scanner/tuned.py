"""A copy of a model that is tuned on the clean images against the noise (Eq. 8), as a repair does it, shorter."""

from dataclasses import replace

import torch
from torch import Tensor

from banscan.importers import TracedModel
from banscan.scanner.findings import Finding
from banscan.scanner.machine.progress import Progress
from banscan.scanner.repair import answers, patch_pool, trainable
from banscan.scanner.repair.course import Course
from banscan.scanner.repair.fold import every_fifth, mirrors
from banscan.scanner.repair.settings import Tuning
from banscan.scanner.search import pixel_model
from banscan.scanner.subject import Subject
from banscan.scanner.twin import with_weights

EPOCHS, CLIP = 8, 0.3
# what progress calls the epochs
STAGE = "tuning, epoch"


def tuned(subject: Subject, finding: Finding | None, progress: Progress) -> tuple[TracedModel, tuple[float, float]]:
    """A copy tuned on four fifths of the images, and the accuracies on the others.

    Args:
        finding: says where the noise is aimed that the copy is tuned against; None for noise that raises the loss, and for no teacher,
            who would hand a backdoor on.
    """
    model, classes = subject.model, subject.classes
    aims: Tensor | None = None
    if finding is not None:
        aims = torch.arange(classes)
        if finding.mapping:
            for source, attacked in finding.mapping:
                aims[source] = attacked
        else:
            aims[:] = finding.classes[0]
    held = every_fifth(subject.labels)
    images, labels = subject.x[~held], subject.labels[~held]
    how = replace(Tuning(), epochs=EPOCHS, clip=CLIP, seed=subject.settings.seed, flip=mirrors(model, images, labels))
    how = how if finding is not None else replace(how, teacher=0.0)
    limits = pixel_model.limits(model, subject.preprocess)
    state = trainable.evened(model, trainable.start(model, images, depth=how.depth))
    pool = patch_pool.LIGHT if subject.costly else patch_pool.WHOLE
    Course(model, subject.preprocess, how, images, labels, limits, aims, pool).run(state, [], stage=STAGE, progress=progress)
    weights = trainable.finished(model, state, images)
    held_out = subject.x[held], subject.labels[held]
    first, last = (answers.accuracy(model, own, *held_out) for own in ({}, weights))
    return with_weights(model, weights), (first, last)
