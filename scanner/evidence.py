"""The evidence of one model: what untargeted noise does to it, how far noise aimed at each class gets, and noise along a map of classes."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from banscan.scanner.inputs import checks
from banscan.scanner.machine.progress import Counter, Progress
from banscan.scanner.search.class_map import Mapped, map_of, margin_table
from banscan.scanner.search.neuron_noise import logits_under, search, start
from banscan.scanner.search.noisy_model import NoisyModel
from banscan.scanner.search.universal import Changes, softened
from banscan.scanner.settings import Settings

# `strength`: the share of images to move, the strengths between which it is sought, in how many steps and for how many targets
REACH = 0.4
STRENGTHS = {"l2": (0.02, 2.0), "linf": (0.02, 0.95)}
BISECTIONS = 7
SAMPLE = 16
# noise along a map may be stronger by this: it moves every class at once
FARTHER = 1.5


@dataclass(frozen=True)
class Evidence:
    """What the noise search found.

    Attributes:
        eps: the strength of the noise.
        targets: [T] classes that noise was aimed at.
        margins: [K, T, S], mean over the clean images of source class s of logit(t) minus the largest other logit, under restart k's noise
            aimed at t; NaN where s = t or the class has no image.
        moved: [K, T], share of the other classes' images that are predicted as t under that noise.
        clean_logits: [T], mean logit of each target over the clean images of other classes, without noise.
        clean_shares: [C], shares of the predictions without noise.
        noisy_shares: [K, C], the same under untargeted noise (Eq. 4), and `noisy_accuracy` [K] their agreement with the labels.
        mapped: of the search for noise along a map of classes; None where there are too few images of a class, or the settings leave it
            out (`Settings.mapping`).
    """

    eps: float
    targets: Tensor
    margins: Tensor
    moved: Tensor
    clean_logits: Tensor
    clean_shares: Tensor
    noisy_shares: Tensor
    noisy_accuracy: Tensor
    mapped: Mapped | None


@dataclass(frozen=True)
class Inputs:
    """The search runs on `quick`, its result is read off `exact`, the same model in float32."""

    quick: NoisyModel
    exact: NoisyModel
    prepared: tuple[Tensor, ...]
    prepared_exact: tuple[Tensor, ...]
    labels: Tensor

    def search(
        self,
        noise: Tensor,
        target: Tensor | None,
        *,
        eps: float,
        seed: int,
        settings: Settings,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Tensor:
        """`neuron_noise.search` on the quick model with the settings of the scan."""
        return search(
            self.quick,
            self.prepared,
            self.labels,
            noise,
            eps=eps,
            steps=settings.steps,
            batch=settings.images,
            seed=seed,
            ball=settings.ball,
            target=target,
            progress=progress,
        )

    def changes(self, eps: float) -> Changes:
        """Noise on the neurons as a change that all images share, within the ball of root mean square eps."""

        def logits(parts: Tensor, images: Tensor) -> Tensor:
            return self.quick.run(tuple(p[images] for p in self.prepared), parts)[0]

        def exact(change: Tensor, images: Tensor) -> Tensor:
            return logits_under(self.exact, tuple(p[images] for p in self.prepared_exact), change[None])[0][0]

        return Changes((self.quick.size,), eps, self.quick.device, self.quick.at_once, logits, exact)


def gather(inputs: Inputs, clean: Tensor, settings: Settings, progress: Progress) -> tuple[Evidence, Tensor]:
    """Runs the untargeted search and one search for every class as target.

    Args:
        clean: logits [N, C] without noise.

    Returns:
        The evidence, and the features [K, N, ...] under untargeted noise.
    """
    labels, classes = inputs.labels, clean.shape[1]
    targets = choose_targets(clean, labels, settings)
    eps = settings.eps or strength(inputs, targets, settings, progress)
    rows = settings.restarts * (1 + len(targets))
    advance = Counter(progress, "searching for neuron noise", rows * settings.steps * min(settings.images, len(labels)))

    def run(noise: Tensor, seed: int, target: Tensor | None) -> tuple[Tensor, Tensor]:
        found = inputs.search(noise, target, eps=eps, seed=seed, settings=settings, progress=advance)
        checks.check_noise(noise, found)
        logits, features = logits_under(inputs.exact, inputs.prepared_exact, found)
        checks.check_finite(logits)
        return logits, features

    noise = start(inputs.quick, rows, eps, settings.seed, settings.ball)
    untargeted, features = run(noise[: settings.restarts], settings.seed, None)
    margins, moved = [], []
    for k, own in enumerate(noise[settings.restarts :].split(len(targets))):
        logits, _ = run(own, settings.seed + k, targets)
        margins.append(margin_table(logits, targets, labels, classes))
        moved.append(moved_share(logits, targets, labels))
    mapped = None
    if settings.mapping:
        mapped = map_of(
            inputs.changes(FARTHER * eps),
            labels,
            targets,
            classes,
            softness=softened(clean),
            seed=settings.seed,
            stage="searching for noise along a map of classes",
            progress=progress,
        )
    predictions = untargeted.argmax(2)
    evidence = Evidence(
        eps=eps,
        targets=targets,
        margins=torch.stack(margins),
        moved=torch.stack(moved),
        clean_logits=foreign_logits(clean, labels)[targets],
        clean_shares=shares(clean.argmax(1), classes),
        noisy_shares=torch.stack([shares(p, classes) for p in predictions]),
        noisy_accuracy=(predictions == labels).float().mean(1),
        mapped=mapped,
    )
    return evidence, features


def strength(inputs: Inputs, targets: Tensor, settings: Settings, progress: Progress) -> float:
    """The eps at which noise reaches the median class on about REACH of the other classes' images, found by bisection.

    Too little noise moves nothing, too much moves everything anywhere; in between, classes can be told apart, and where that is
    depends on the model. Searches with a sample of the targets decide.
    """
    drawn = torch.randperm(len(targets), generator=torch.Generator().manual_seed(settings.seed))[:SAMPLE]
    sample = targets[drawn.sort().values]
    low, high = (math.log(eps) for eps in STRENGTHS[settings.ball])
    for tried in range(BISECTIONS):
        progress("finding the strength of the noise", tried, BISECTIONS)
        eps = math.exp((low + high) / 2)
        noise = start(inputs.quick, len(sample), eps, settings.seed, settings.ball)
        found = inputs.search(noise, sample, eps=eps, seed=settings.seed, settings=settings)
        logits, _ = logits_under(inputs.quick, inputs.prepared, found)
        enough = moved_share(logits, sample, inputs.labels).median() >= REACH
        low, high = (low, math.log(eps)) if enough else (math.log(eps), high)
    progress("finding the strength of the noise", BISECTIONS, BISECTIONS)
    return math.exp((low + high) / 2)


def choose_targets(clean: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    """All classes, or for models of very many the half with the largest mean logit on images of others and a random half.

    A target class has a raised logit on everything already without noise, so it is among the first; the others are its reference.
    """
    classes = clean.shape[1]
    if classes <= settings.targets:
        return torch.arange(classes)
    order = foreign_logits(clean, labels).argsort(descending=True)
    first, rest = order[: settings.targets // 2], order[settings.targets // 2 :]
    drawn = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(settings.seed))]
    return torch.cat((first, drawn[: settings.targets - len(first)])).sort().values


def foreign_logits(clean: Tensor, labels: Tensor) -> Tensor:
    """Mean logit [C] of every class over the images of other classes, for logits [N, C]."""
    own = torch.nn.functional.one_hot(labels, clean.shape[1]).bool()
    return clean.masked_fill(own, float("nan")).nanmean(0)


def moved_share(logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Share [T] of the images of other classes that are predicted as t, for logits [T, N, C]."""
    others = labels[None] != targets[:, None]
    hit = (logits.argmax(2) == targets[:, None]) & others
    return hit.sum(1) / others.sum(1)


def shares(predictions: Tensor, classes: int) -> Tensor:
    """Share [C] of each class among predictions [N]."""
    return torch.bincount(predictions, minlength=classes).float() / len(predictions)
