"""FeatureRE (Wang et al., NeurIPS 2022): a network that changes images so that a few features alone, on a hyperplane, lead to a class.

For each class a network of triggers and a mask of the features are learnt in turns. The features behind the mask are to lead to the class
whatever the rest is, to differ little between images, and to be unlike those of the class's own images. The *mixed value* of an epoch is
the likeness less the success, and by how much the bounds of change, of the mask's size and of the features' deviation are exceeded; a
model is called where the smallest of any class and epoch is below -0.75.

Its repair is told a class, in the published program the one that was detected: behind the mask that is found for it, features change
their sign.

The bounds of a detection are those that BAN relaxed (Appendix B.3), those of a repair the program's own (BAN, Section 4.2), the rule and
all else the program's. What differs: a smaller network,
which starts near the identity; the change of pixels is measured in units of CIFAR-10's variance, whatever the model's preprocessing, and
pixels stay in [0, 1]; classes without images are not looked at.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.baselines import disentangled as parts
from bench.baselines.generator import VARIANCE, Generator, each
from bench.baselines.subject import Answers, Finding, Subject

THRESHOLD = -0.75
# of the loss: likeness, and too large a change before there is a mask
LIKENESS, WARM = 5.0, 100.0
BOUNDS = parts.Bounds(change=0.2, spread=1.2, size=0.06)


@dataclass(frozen=True)
class Settings:
    """Epochs before and with the mask, images of a batch, and how many are used for a class, None for all of the others."""

    warm: int = 100
    epochs: int = 400
    batch: int = 256
    images: int | None = None
    bounds: parts.Bounds = BOUNDS


FULL = Settings()
# what a CPU allows: a quarter of the epochs, two small batches in each
SMALL = replace(FULL, warm=25, epochs=100, batch=16, images=32)
# of a repair, which looks at one class alone; the size is that of the program's example for it
REPAIR = replace(FULL, bounds=parts.Bounds(change=0.15, spread=1.0, size=0.05))
SMALL_REPAIR = replace(REPAIR, warm=25, epochs=100, batch=64, images=256)


@dataclass(frozen=True)
class Inverted:
    """Of targets: the smallest mixed values [K] of any epoch, and the masks [K, ...] of the features after the last."""

    values: Tensor
    masks: Tensor


def find(subject: Subject, seed: int, settings: Settings = FULL) -> Finding:
    """The statistic is the negative of the smallest mixed value."""
    space = parts.space(subject)
    torch.manual_seed(seed)
    values = torch.full((subject.pixel_model.classes,), torch.inf)
    for rows in space.known.split(space.group(settings.batch)):
        numbers = parts.others(subject.labels, rows, settings.images, seed)
        values[rows] = inverted(subject, space, rows, numbers, settings).values
    target = int(values.argmin())
    return Finding(target, -float(values[target]), bool(values[target] < THRESHOLD))


def mend(subject: Subject, target: int, seed: int, settings: Settings = REPAIR) -> Answers:
    """The model with its features flipped behind the mask m of a target: f (1 - 2 m)."""
    torch.manual_seed(seed)
    rows = torch.tensor([target])
    found = inverted(subject, parts.space(subject), rows, parts.others(subject.labels, rows, settings.images, seed), settings)
    trunk, head = subject.model.split(parts.place(subject.model))

    def answers(x: Tensor) -> Tensor:
        logits: Tensor = head(trunk(x) * (1 - 2 * found.masks[0]))
        return logits

    return answers


def mixed_value(terms: parts.Terms, size: Tensor, bounds: parts.Bounds, count: int) -> Tensor:
    """Of an epoch's means [K]; the norm of the mask is bounded by `count`."""
    excess = parts.over(terms.change, bounds.change) + parts.over(size, count) + parts.over(terms.spread, bounds.spread)
    return terms.likeness - terms.success + excess


def inverted(subject: Subject, space: parts.Space, targets: Tensor, numbers: Tensor, settings: Settings) -> Inverted:
    """What is learnt of targets, each with its images, by number [K, M]."""
    axis, pixels, bounds = subject.pixel_model.axis, subject.pixels, settings.bounds
    networks = torch.nn.ModuleList(Generator(pixels.shape[axis], axis) for _ in targets)
    raw = torch.ones(len(targets), *space.clean.shape[1:], requires_grad=True)
    learning = torch.optim.Adam(networks.parameters(), lr=parts.LR, betas=parts.BETAS)
    masking = torch.optim.Adam([raw], lr=parts.MASK_LR, betas=parts.BETAS)
    count = int(space.clean[0].numel() * bounds.size)
    best, weights = torch.full((len(targets),), torch.inf), parts.first(len(targets))
    for epoch in range(settings.warm + settings.epochs):
        warm = epoch < settings.warm
        seen, sizes = [], []
        for drawn in parts.batches(numbers, settings.batch):
            x = pixels[drawn]
            networks.train()
            made = each(networks, x)
            features = space.of(made)
            mask = parts.bounded(raw.detach())
            shown = features if warm else parts.mixed(mask, features, _reference(space, drawn))
            loss, success = parts.losses(space.head(shown), targets)
            change = (made - x).square().flatten(1).mean(1) / VARIANCE
            terms = parts.Terms(loss, success, parts.likeness(space.means[targets], features), change, parts.spread(mask, features))
            total = loss + WARM * parts.held(change, change > bounds.change)
            if not warm:
                total = parts.objective(terms, bounds, weights, likeness=LIKENESS)
            learning.zero_grad()
            total.sum().backward()  # type: ignore[no-untyped-call]
            learning.step()
            if warm:
                continue
            seen.append(terms)
            networks.eval()
            with torch.no_grad():
                features = space.of(each(networks, x))
            reference = _reference(space, drawn)

            def masked(m: Tensor, f: Tensor = features, r: Tensor = reference) -> tuple[Tensor, Tensor]:
                return parts.losses(space.head(parts.mixed(m, f, r)), targets)

            sizes.append(parts.fit_mask(raw, masking, masked, count))
        if not warm:
            means = parts.mean(seen)
            best = torch.minimum(best, mixed_value(means, torch.stack(sizes).mean(0), bounds, count))
            weights = parts.missed(means, bounds)
    return Inverted(best, parts.bounded(raw.detach()))


def _reference(space: parts.Space, drawn: Tensor) -> Tensor:
    """Features of clean images drawn at random, for numbers [K, B]."""
    return space.clean[torch.randint(len(space.clean), drawn.shape)]
