"""Unicorn (Wang et al., ICLR 2023): a trigger is a mask and a pattern in a space that a network maps images to and another maps back.

For each class both networks, mask and pattern of the trigger, and a mask of the features are learnt in turns. The features behind that mask
are to lead to the class whatever the rest is, to differ little between images and to be unlike those of the class's own images; changed
images are to look like the clean ones (SSIM), the two networks are to undo each other, and the trigger's mask is to be small. A model is
called where the trigger of a class leads more than 90 % of the other classes' images to it. The published program prints that share and no
verdict; 90 % is the success that it aims at.

Bounds are those that BAN set (Appendix B.3), all else is the published program's. What differs: smaller networks, which start near the
identity; they learn to undo each other once, for all classes, on all images; changed pixels stay in [0, 1]; the share is that of all clean
images of other classes, since no test images are set aside; classes without images are not looked at.
"""

from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import ModuleList
from torch.nn import functional as F

from bench.baselines import disentangled as parts
from bench.baselines.generator import VARIANCE, Generator, each
from bench.baselines.ssim import ssim
from bench.baselines.subject import Finding, Subject

# the share of pixels that the trigger's mask may take, and of the loss: likeness, undoing each other, a mask that is too large
COVER, LIKENESS, UNDO, LARGE = 0.15, 1.0, 200.0, 10.0
# likeness counts down to this where mask and pattern are learnt
UNLIKE = 0.5
BOUNDS = parts.Bounds(change=0.1, spread=0.5, size=0.01)


@dataclass(frozen=True)
class Settings:
    """Epochs of undoing and of inverting, steps of trigger and of mask for one of the networks, images of a batch and for a class."""

    identity: int = 500
    epochs: int = 40
    inner: int = 10
    batch: int = 64
    images: int | None = None
    bounds: parts.Bounds = BOUNDS


FULL = Settings()
# what a CPU allows: a fifth of the epochs, one small batch in each
SMALL = replace(FULL, identity=20, epochs=8, batch=32, images=32)


@dataclass(frozen=True)
class Trigger:
    """Of K classes: networks there and back, and what mask and pattern [K, ...] follow from."""

    there: ModuleList
    back: ModuleList
    mask: Tensor
    pattern: Tensor

    def changed(self, there: Tensor) -> Tensor:
        """Images [K, B, ...] with the trigger, from where the first network maps them to."""
        return each(self.back, stamped(there, parts.bounded(self.mask), parts.bounded(self.pattern)))


def find(subject: Subject, seed: int, settings: Settings = FULL) -> Finding:
    """The statistic is the largest share of images that a trigger leads to its class."""
    space = parts.space(subject)
    torch.manual_seed(seed)
    pair = identity(subject, settings)
    shares = torch.zeros(subject.pixel_model.classes)
    for rows in space.known.split(space.group(settings.batch)):
        shares[rows] = inverted(subject, space, pair, rows, seed, settings)
    target = int(shares.argmax())
    return Finding(target, float(shares[target]), bool(shares[target] > parts.SUCCESS))


def stamped(there: Tensor, mask: Tensor, pattern: Tensor) -> Tensor:
    """Mask and pattern [K, ...], in units of the range of a batch, put on it [K, B, ...]."""
    flat = there.flatten(1)
    low, high = (bound.reshape(-1, *(1,) * (there.dim() - 1)) for bound in (flat.min(1).values, flat.max(1).values))
    unit = (there - low) / (high - low)
    return ((1 - mask[:, None]) * unit + mask[:, None] * pattern[:, None]) * (high - low) + low


def identity(subject: Subject, settings: Settings) -> tuple[Generator, Generator]:
    """Two networks that undo each other."""
    axis, pixels = subject.pixel_model.axis, subject.pixels
    channels = pixels.shape[axis]
    there, back = Generator(channels, axis, pixels=False), Generator(channels, axis)
    optimizer = torch.optim.Adam([*there.parameters(), *back.parameters()], lr=parts.LR, betas=parts.BETAS)
    for _ in range(settings.identity):
        for x in pixels.split(settings.batch):
            loss = F.mse_loss(back(there(x)), x) / VARIANCE
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return there, back


def inverted(
    subject: Subject, space: parts.Space, pair: tuple[Generator, Generator], targets: Tensor, seed: int, settings: Settings
) -> Tensor:
    """The share [K] of the images of other classes that each target's trigger leads to it."""
    pixels, bounds, axis = subject.pixels, settings.bounds, subject.pixel_model.axis
    numbers = parts.others(subject.labels, targets, settings.images, seed)
    there, back = (ModuleList(deepcopy(network) for _ in targets) for network in pair)
    shape = (len(targets), *pixels.shape[1:])
    trigger = Trigger(there, back, torch.ones(shape, requires_grad=True), torch.zeros(shape, requires_grad=True))
    raw = torch.ones(len(targets), *space.clean.shape[1:], requires_grad=True)
    learning = torch.optim.Adam([*there.parameters(), *back.parameters()], lr=parts.LR, betas=parts.BETAS)
    placing = torch.optim.Adam([trigger.mask, trigger.pattern], lr=parts.MASK_LR, betas=parts.BETAS)
    masking = torch.optim.Adam([raw], lr=parts.MASK_LR, betas=parts.BETAS)
    cover, count = COVER * pixels[0].numel(), int(space.clean[0].numel() * bounds.size)
    weights = parts.first(len(targets))

    def measured(made: Tensor, x: Tensor, drawn: Tensor) -> parts.Terms:
        features, mask = space.of(made), parts.bounded(raw.detach())
        loss, success = parts.losses(space.head(parts.mixed(mask, features, _reference(space, drawn))), targets)
        like = parts.likeness(space.means[targets], features)
        return parts.Terms(loss, success, like, unlike(made, x, axis), parts.spread(mask, features))

    for _ in range(settings.epochs):
        seen, last = [], []
        for drawn in parts.batches(numbers, settings.batch):
            x = pixels[drawn]
            there.train(), back.train()
            mapped = each(there, x)
            terms = measured(trigger.changed(mapped), x, drawn)
            undone = (each(back, mapped) - x).square().flatten(1).mean(1) / VARIANCE
            learning.zero_grad()
            (parts.objective(terms, bounds, weights, likeness=LIKENESS) + UNDO * undone).sum().backward()  # type: ignore[no-untyped-call]
            learning.step()
            seen.append(terms)
            there.eval(), back.eval()
            with torch.no_grad():
                mapped = each(there, x)
            for _ in range(settings.inner):
                terms = measured(trigger.changed(mapped), x, drawn)
                covered = parts.size(parts.bounded(trigger.mask))
                total = parts.objective(terms, bounds, weights, likeness=LIKENESS, unlike=UNLIKE)
                total = total + LARGE * parts.held(covered, covered > cover)
                trigger.mask.grad, trigger.pattern.grad = torch.autograd.grad(total.sum(), (trigger.mask, trigger.pattern))
                placing.step()
                seen.append(terms)
            last.append(terms)
            with torch.no_grad():
                features = space.of(trigger.changed(mapped))
            for _ in range(settings.inner):

                def masked(m: Tensor, f: Tensor = features, d: Tensor = drawn) -> tuple[Tensor, Tensor]:
                    return parts.losses(space.head(parts.mixed(m, f, _reference(space, d))), targets)

                parts.fit_mask(raw, masking, masked, count)
        # success is that of all steps, the rest that of the last of each batch
        weights = replace(parts.missed(parts.mean(last), bounds), success=parts.missed(parts.mean(seen), bounds).success)
    return reached(subject, space, trigger, targets, seed, settings.batch)


@torch.no_grad()
def reached(subject: Subject, space: parts.Space, trigger: Trigger, targets: Tensor, seed: int, batch: int) -> Tensor:
    """The share [K], through the features as they are."""
    trigger.there.eval(), trigger.back.eval()
    hits = []
    numbers = parts.others(subject.labels, targets, None, seed)
    for drawn in numbers.split(batch, 1):
        made = trigger.changed(each(trigger.there, subject.pixels[drawn]))
        hits.append(space.head(space.of(made)).argmax(2) == targets[:, None])
    return torch.cat(hits, 1).float().mean(1)


def unlike(made: Tensor, images: Tensor, axis: int) -> Tensor:
    """One less the mean similarity [K] of changed images [K, B, ...] and clean ones."""
    a, b = (part.flatten(0, 1) if axis == 1 else part.flatten(0, 1).permute(0, 3, 1, 2) for part in (made, images))
    return 1 - ssim(a, b).reshape(made.shape[:2]).mean(1)


def _reference(space: parts.Space, drawn: Tensor) -> Tensor:
    """The features of the same clean images in another order, for numbers [K, B]."""
    return space.clean[drawn[:, torch.randperm(drawn.shape[1])]]
