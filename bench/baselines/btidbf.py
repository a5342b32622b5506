"""BTI-DBF (Xu et al., ICLR 2024) and BTI-DBF* (BAN, Section 3.4): a generator of triggers, trained through decoupled features.

A mask on the features is to keep what is benign (Eq. 7; with the regulariser of Eq. 5 in BTI-DBF*); a generator then changes images so that
the benign features stay and the others move as far as they can. The class that most generated images fall into is taken for the target.
The papers do not say when a model counts as backdoored; here, when more than half of the images of other classes fall into it.

BTI-DBF(U), the repair, takes turns: it trains mask and generator, from the second turn on also towards the target that the first found,
and tunes the model so that a tenth of each batch, changed by the generator, keeps its class and its features.

What differs from the published code: a smaller generator, which starts near the identity instead of being trained to it; the change of
pixels in units of CIFAR-10's variance, whatever the model's preprocessing, and what is asked of features in units of their own mean
square, 0.3 of it instead of 3; no image is cropped or mirrored; the mask is learnt on the network as it answers, and clamped; the target is
the class that most images of *others* fall into, without noise on them. A repair tunes the form that banscan's own tunes, with the batch
norm that was folded away put back, and folds it again by the statistics of clean images.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from banscan.importers import TracedModel
from banscan.scanner.repair import trainable
from banscan.scanner.search import mask
from banscan.scanner.twin import with_weights
from bench.baselines.disentangled import place
from bench.baselines.generator import VARIANCE, Generator
from bench.baselines.subject import Answers, Finding, Subject, most

LR, AT_ONCE = 1e-3, 250
# mean squares: of the change of pixels, in units of CIFAR-10's variance, and of that of benign features, in units of their own
PIXELS_BOUND, FEATURES_BOUND = 0.3, 0.3


@dataclass(frozen=True)
class Search:
    """Of a generator: epochs, images of a batch, and lambda1, the weight of the mask's norm, 0 for the original."""

    epochs: int = 60
    batch: int = 64
    lambda1: float = 0.0


@dataclass(frozen=True)
class Unlearning:
    """Of a repair: turns, the search of each, then epochs of tuning by Adam, and the share of a batch that the generator changes."""

    turns: int = 5
    search: Search = Search(epochs=30, batch=128)
    epochs: int = 30
    batch: int = 128
    lr: float = 1e-4
    share: float = 0.1


FULL = Unlearning()
# what a CPU allows
SMALL = replace(FULL, turns=3, search=Search(epochs=15, batch=128), epochs=20, batch=64)


def find(subject: Subject, seed: int, *, lambda1: float) -> Finding:
    """Trains mask and generator."""
    model = subject.pixel_model
    torch.manual_seed(seed)
    generator = Generator(subject.pixels.shape[model.axis], model.axis)
    train(subject, subject.model, generator, torch.optim.Adam(generator.parameters(), lr=LR), seed, Search(lambda1=lambda1))
    return _led(subject, generator, model.logits)


@torch.no_grad()
def _led(subject: Subject, generator: Generator, logits: Answers) -> Finding:
    """Where generated images fall; `logits` of pixels."""
    predicted = torch.cat([logits(generator(part)) for part in subject.pixels.split(AT_ONCE)]).argmax(1)
    return most(predicted, subject.labels, subject.pixel_model.classes)


def train(
    subject: Subject,
    model: TracedModel,
    generator: Generator,
    optimizer: torch.optim.Adam,
    seed: int,
    how: Search,
    aim: int | None = None,
) -> None:
    """Trains a generator, in place, on the features of a model that takes the subject's images; with `aim`, also towards that class."""
    inputs, images, labels = subject.pixel_model.inputs, subject.pixels, subject.labels
    trunk, head = model.split(place(model))
    with torch.no_grad():
        clean = torch.cat([trunk(inputs(part)) for part in images.split(AT_ONCE)])
    benign = mask.learn(head, clean, labels, seed=seed, lambda1=how.lambda1)
    scale = clean.square().mean()
    generator.train()
    for _ in range(how.epochs):
        for drawn in torch.randperm(len(images)).split(how.batch):
            x, f = images[drawn], clean[drawn]
            made = generator(x)
            changed = trunk(inputs(made))
            kept, moved = (F.mse_loss(part * changed, part * f) / scale for part in (benign, 1 - benign))
            change = F.mse_loss(made, x) / VARIANCE
            loss = change if change > PIXELS_BOUND or kept > FEATURES_BOUND else 0.01 * kept - moved
            if aim is not None:
                loss = loss + F.cross_entropy(head(changed), torch.full_like(labels[drawn], aim))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    generator.eval()


def mend(subject: Subject, target: int, seed: int, how: Unlearning = FULL) -> Answers:
    """The model that has unlearnt what the generator found; the target is not looked at, it finds its own."""
    model, images = subject.model, subject.pixels
    inputs, axis = subject.pixel_model.inputs, subject.pixel_model.axis
    torch.manual_seed(seed)
    generator = Generator(images.shape[axis], axis)
    searching = torch.optim.Adam(generator.parameters(), lr=LR)
    shown = torch.cat([inputs(part) for part in images.split(AT_ONCE)])
    state = trainable.evened(model, trainable.start(model, shown))
    values = {name: value.clone().requires_grad_() for name, value in state.values.items()}
    tuning = torch.optim.Adam(values.values(), lr=how.lr)
    now, aim = model, None
    for turn in range(how.turns):
        train(subject, now, generator, searching, seed + turn, how.search, aim)
        aim = _led(subject, generator, lambda pixels: model.logits(inputs(pixels))).target if aim is None else aim
        for _ in range(how.epochs):
            for drawn in torch.randperm(len(images)).split(how.batch):
                if len(drawn) == 1:  # has no statistics
                    continue
                tuning.zero_grad()
                unlearning(subject, values, generator, drawn, how.share).backward()
                tuning.step()
        done = trainable.State({name: value.detach() for name, value in values.items()}, {})
        now = with_weights(model, trainable.finished(model, done, shown))
    return now.logits


def unlearning(subject: Subject, values: dict[str, Tensor], generator: Generator, drawn: Tensor, share: float) -> Tensor:
    """The loss of a batch of images, by number [B]: of the classes with some of them changed, and how far that moves the features."""
    x, y = subject.pixels[drawn], subject.labels[drawn]
    some = int(share * len(drawn)) + 1
    with torch.no_grad():
        made = torch.cat((generator(x[:some]), x[some:]))
    clean, changed = (_Noting(subject, values) for _ in range(2))
    clean.run(subject.pixel_model.inputs(x))
    logits = changed.run(subject.pixel_model.inputs(made))
    distance = F.mse_loss(clean.features, changed.features) / clean.features.detach().square().mean()
    return F.cross_entropy(logits, y) + distance


class _Noting(trainable.Pass):
    """A pass in training mode that keeps the features on its way."""

    features: Tensor

    def __init__(self, subject: Subject, values: dict[str, Tensor]) -> None:
        super().__init__(subject.model, values)
        self.place = place(subject.model)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name == self.place:
            self.features = value
        return value
