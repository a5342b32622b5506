"""BTI-DBF (Xu et al., ICLR 2024) and BTI-DBF* (BAN, Section 3.4): a generator of triggers, trained through decoupled features.

A mask on the features is to keep what is benign (Eq. 7; with the regulariser of Eq. 5 in BTI-DBF*); a generator then changes images so that
the benign features stay and the others move as far as they can. The class that most generated images fall into is taken for the target.
The papers do not say when a model counts as backdoored; here, when more than half of the images of other classes fall into it.

BTI-DBF(U), the repair, takes turns: it trains mask and generator, from the second turn on also towards the target that the first found,
and tunes the model so that a tenth of each batch, changed by the generator, keeps its class and its features.

What differs from the published code: a smaller generator, which starts near the identity instead of being trained to it; bounds and the
distance of features in units of pixels and of the features' own mean square, since models of any preprocessing are compared; a repair
tunes the form that banscan's own tunes, with the batch norm that was folded away put back.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from banscan.scanner.control import with_weights
from banscan.scanner.repair import trainable
from banscan.scanner.search import mask
from bench.baselines.disentangled import place
from bench.baselines.generator import VARIANCE, Generator
from bench.baselines.subject import Answers, Finding, Subject, most

LR, AT_ONCE = 1e-3, 250
# mean squares: of the change of pixels (0.3 in units of CIFAR-10's variance), of the change of benign features
PIXELS_BOUND, FEATURES_BOUND = 0.3 * VARIANCE, 0.3


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
    model, images, labels = subject.pixel_model, subject.pixels, subject.labels
    torch.manual_seed(seed)
    generator = Generator(images.shape[model.axis], model.axis)
    train(subject, generator, torch.optim.Adam(generator.parameters(), lr=LR), seed, Search(lambda1=lambda1))
    with torch.no_grad():
        predicted = torch.cat([model.logits(generator(part)) for part in images.split(AT_ONCE)]).argmax(1)
    return most(predicted, labels, model.classes)


def train(subject: Subject, generator: Generator, optimizer: torch.optim.Adam, seed: int, how: Search, aim: int | None = None) -> None:
    """Trains a generator, in place, on the features of the model as it is; with `aim`, also towards that class."""
    inputs, images, labels = subject.pixel_model.inputs, subject.pixels, subject.labels
    trunk, head = subject.model.split(place(subject.model))
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
            change = F.mse_loss(made, x)
            loss = change if change > PIXELS_BOUND or kept > FEATURES_BOUND else 0.01 * kept - moved
            if aim is not None:
                loss = loss + F.cross_entropy(head(changed), torch.full_like(labels[drawn], aim))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    generator.eval()


def mend(subject: Subject, target: int, seed: int, how: Unlearning = FULL) -> Answers:
    """The model that has unlearnt what the generator found; the target is not looked at, it finds its own."""
    model, images, labels = subject.model, subject.pixels, subject.labels
    inputs, axis = subject.pixel_model.inputs, subject.pixel_model.axis
    torch.manual_seed(seed)
    generator = Generator(images.shape[axis], axis)
    searching = torch.optim.Adam(generator.parameters(), lr=LR)
    shown = torch.cat([inputs(part) for part in images.split(AT_ONCE)])
    state = trainable.evened(model, trainable.start(model, shown))
    values = {name: value.clone().requires_grad_() for name, value in state.values.items()}
    tuning = torch.optim.Adam(values.values(), lr=how.lr)
    now, aim = subject, None
    for turn in range(how.turns):
        train(now, generator, searching, seed + turn, how.search, aim)
        if aim is None:
            with torch.no_grad():
                predicted = torch.cat([model.logits(inputs(generator(part))) for part in images.split(AT_ONCE)]).argmax(1)
            aim = most(predicted, labels, model.classes).target
        for _ in range(how.epochs):
            for drawn in torch.randperm(len(images)).split(how.batch):
                if len(drawn) == 1:  # has no statistics
                    continue
                tuning.zero_grad()
                unlearning(now, values, generator, drawn, how.share).backward()
                tuning.step()
        done = trainable.State({name: value.detach() for name, value in values.items()}, {})
        now = replace(subject, model=with_weights(model, trainable.finished(model, done, shown)))
    return now.model.logits


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
