"""A copy of a model that is trained from scratch: its layers with weights drawn anew, on the clean images alone.

Nothing is left in it of what was planted, for it has never seen a trigger, nor any answer of the model but the classes of the clean images:
softer answers hand traces of a backdoor on. What the classes, the layers and so few images bring with them, it has as well: a digit that a
stroke makes another one, a depthwise network that one pattern of pixels steers anywhere.

Where so few images do not teach a whole network, its first layers are kept as they are. They may still see a trigger; but what led from
there to the target class is gone, and no clean image shows it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.errors import EvidenceError, ModelError
from banscan.importers import TracedModel
from banscan.scanner.findings import ANEW
from banscan.scanner.machine.forecast import LEARNT, Work, counter
from banscan.scanner.machine.progress import Progress
from banscan.scanner.repair import answers, trainable
from banscan.scanner.repair.augment import augment
from banscan.scanner.repair.fold import every_fifth, mirrors
from banscan.scanner.search.noisy_model import layers
from banscan.scanner.subject import Subject
from banscan.scanner.twin import with_constants

# of AdamW (Loshchilov and Hutter, 2019) with a rate that rises over RISE of the steps and falls to nothing, as in Smith and Topin (2018)
STEPS, BATCH, RATE, DECAY, RISE = 1200, 32, 3e-3, 1e-3, 0.2
# shares of the layers below the classifier that a copy keeps of the model, counted from the image
KEPT = (0.0, 0.25, 0.5, 0.75)
# a copy knows its task where it is as far above guessing as this share of what the model is
KNOWS = 0.5


@dataclass(frozen=True, eq=False)
class Trained:
    """A copy, what a report says of how it was made, and the accuracies of model and copy on images that it was not trained on."""

    model: TracedModel
    how: str
    accuracy: tuple[float, float]


def depths(model: TracedModel) -> tuple[float, ...]:
    """The shares of KEPT, but those that keep no more layers than the one before."""
    counts = [len(layers(model, share)) for share in KEPT]
    return tuple(share for k, share in enumerate(KEPT) if k == 0 or counts[k] < counts[k - 1])


def learnt(subject: Subject, number: int, depth: float, progress: Progress) -> Trained | None:
    """A copy as `trained` makes it; None where it learns too little to say what is natural, or cannot be trained."""
    try:
        copy = trained(subject, number, depth, progress)
    except (EvidenceError, ModelError, RuntimeError, ValueError):  # the last two: what PyTorch cannot train; the scan is not lost for it
        return None
    return copy if knows(copy.accuracy, subject.classes) else None


def trained(subject: Subject, number: int, depth: float, progress: Progress) -> Trained:
    """A copy trained on four fifths of the images [N, ...], and measured on the others.

    Args:
        number: of the copy; others have other weights at first and see the images in another order.
        depth: of KEPT, the share of the layers that are the model's own.
    """
    model, held = subject.model, every_fifth(subject.labels)
    images, labels = subject.x[~held], subject.labels[~held]
    generator = torch.Generator().manual_seed(subject.settings.seed * 1_000_003 + number)
    state = trainable.anew(model, trainable.start(model, images, depth=depth), generator)
    values = {name: value.requires_grad_() for name, value in state.values.items()}
    optimiser = torch.optim.AdamW(values.values(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=RISE)
    flip = mirrors(model, images, labels)
    # the searches' number format, and the layout in which layers are fast
    fast = torch.autocast(model.device.type, dtype=subject.precision, enabled=_mixes(model, values, images[:2], subject.precision))
    dense = torch.channels_last if model.input.layout == "NCHW" else torch.contiguous_format
    count = counter(progress, work(subject, number, depth))
    with torch.enable_grad():
        for part in _batches(len(images), generator):
            shown = augment(images[part], flip, generator, model.input.layout).to(model.device, memory_format=dense)
            with fast:
                logits = trainable.Pass(model, values).run(shown)
            loss = F.cross_entropy(logits.float(), labels[part].to(model.device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            count(len(part))
    count.end()
    made = trainable.State({name: value.detach() for name, value in values.items()}, {})
    copy = with_constants(model, trainable.folded(model, made, images))
    own, anew = (answers.accuracy(m, {}, subject.x[held], subject.labels[held]) for m in (model, copy))
    kept = len(layers(model, 0.0)) - len(layers(model, depth))
    first = f" but for the first {'layer' if kept == 1 else f'{kept} layers'}" if kept else ""
    return Trained(copy, ANEW + first, (own, anew))


@torch.no_grad()
def _mixes(model: TracedModel, values: dict[str, Tensor], images: Tensor, precision: torch.dtype) -> bool:
    """Whether layers in this number format work beside what stays in float32; not all operators take both."""
    if precision == torch.float32:
        return False
    try:
        with torch.autocast(model.device.type, dtype=precision):
            trainable.Pass(model, values).run(images.to(model.device))
    except RuntimeError:
        return False
    return True


def knows(accuracy: tuple[float, float], classes: int) -> bool:
    """Whether a copy with these accuracies, as `trained` gives them, has learnt enough to say what is natural for its classes."""
    own, anew = accuracy
    return anew - 1 / classes >= KNOWS * (own - 1 / classes)


def work(subject: Subject, number: int, depth: float = 0.0) -> Work:
    """The training of a copy that keeps this share of the layers."""
    images = int((~every_fifth(subject.labels)).sum())
    how = f"behind {depth:.0%} of the layers" if depth else "from scratch"
    return Work(f"training copy {number + 1} {how}", LEARNT, STEPS * min(BATCH, images))


def _batches(images: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Of each of STEPS steps, which images; all of them come before one comes again."""
    order = torch.empty(0, dtype=torch.long)
    size = min(BATCH, images)
    for _ in range(STEPS):
        if len(order) < size:
            order = torch.randperm(images, generator=generator)
        part, order = order[:size], order[size:]
        yield part
