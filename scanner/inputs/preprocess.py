"""From uint8 pixels to what the model was trained on: named conventions, and the one that the images themselves support."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from banscan.errors import EvidenceError, UsageError
from banscan.importers import TracedModel
from banscan.scanner.inputs import order
from banscan.scanner.machine import memory
from banscan.scanner.machine.progress import Counter, Progress, silent
from banscan.scanner.settings import Options
from banscan.text import counted

# a candidate counts as a rival when it is this close to the best, in standard errors, and as harmless when it predicts the same
RIVAL = 2.0
SAME = 0.9
# without labels one with less contrast is a rival with so much of the best one's information: contrast alone makes models surer
INFORMED = 0.6
# images of the first rounds; a candidate that is so far behind after one of them is not tried on more
FIRST = (24, 72)
BEHIND, POOR = 4.0, 0.5
# logarithms of the temperatures that logits are divided by, in units of their own spread; the largest logit told apart from a larger one
COOLEST, HOTTEST = -4.0, 4.0
LARGEST = 1e6
# a standard error of losses that is smaller is one of arithmetic
FINEST = 1e-4
# what progress calls it
TRYING = "trying preprocessings"
# labels that fewer of the predictions agree with may be in another order than the classes
ORDERED = 0.5


@dataclass(frozen=True)
class Preprocess:
    """x = (pixel * scale - mean) / std per channel; mean and std in RGB order, also where `bgr` turns the channels around."""

    name: str
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False

    @property
    def contrast(self) -> float:
        """How far apart black and white are."""
        return 255 * self.scale * len(self.std) / sum(self.std)

    def __call__(self, images: np.ndarray, layout: str) -> Tensor:
        """uint8 [N, H, W, C] → float32 [N, C, H, W], or [N, H, W, C] for layout "NHWC"."""
        x = torch.from_numpy(images).float() * self.scale
        channels = x.shape[-1]
        mean, std = (torch.tensor(v if len(v) == channels else (sum(v) / len(v),)) for v in (self.mean, self.std))
        x = (x - mean) / std
        if self.bgr:
            x = x.flip(-1)
        return (x if layout == "NHWC" else x.permute(0, 3, 1, 2)).contiguous()


CANDIDATES = (
    Preprocess("unit"),
    Preprocess("raw", scale=1.0),
    Preprocess("signed", mean=(0.5,), std=(0.5,)),
    Preprocess("imagenet", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    Preprocess("cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    Preprocess("gtsrb", mean=(0.3403, 0.3121, 0.3214), std=(0.2724, 0.2608, 0.2669)),
    Preprocess("mnist", mean=(0.1307,), std=(0.3081,)),
    Preprocess("clip", mean=(0.4815, 0.4578, 0.4082), std=(0.2686, 0.2613, 0.2758)),
    Preprocess("centred", mean=(0.485, 0.456, 0.406)),
    Preprocess("caffe", scale=1.0, mean=(123.68, 116.779, 103.939), bgr=True),
    Preprocess("caffe-rgb", scale=1.0, mean=(123.68, 116.779, 103.939)),
    Preprocess("unit-bgr", bgr=True),
    Preprocess("raw-bgr", scale=1.0, bgr=True),
    Preprocess("signed-bgr", mean=(0.5,), std=(0.5,), bgr=True),
    Preprocess("imagenet-bgr", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), bgr=True),
)
# without labels the order of the channels cannot be told: it is taken for RGB, but for the one convention that goes with BGR
UNTOLD = frozenset({"caffe-rgb", "unit-bgr", "raw-bgr", "signed-bgr", "imagenet-bgr"})
NAMES = tuple(c.name for c in CANDIDATES)


@dataclass(frozen=True)
class Support:
    """How well the images support a candidate: accuracy where there are labels, mean confidence, and information.

    Information is the mutual information of image and prediction over its largest value, log(classes): high when predictions are sure
    and differ between images. Confidence alone would reward a wrong scale, which drives every image into one sure class. `images` is the
    number of those that it was tried on.
    """

    name: str
    accuracy: float | None
    confidence: float
    information: float
    images: int = 0


@dataclass(frozen=True)
class Tried:
    """Every candidate that was tried, the one that was chosen or None where they leave it open, and why."""

    preprocess: Preprocess | None
    reason: str
    table: tuple[Support, ...]


@dataclass(frozen=True)
class Choice(Tried):
    """Candidates of which one was chosen."""

    preprocess: Preprocess


class UndecidedError(EvidenceError):
    """Several candidates are supported equally well; `tried` holds all of them."""

    def __init__(self, reason: str, table: tuple[Support, ...]) -> None:
        super().__init__(reason)
        self.tried = Tried(None, reason, table)


def given(options: Options) -> Preprocess | None:
    """The preprocessing asked for, or None for "auto". Single values given by the user replace those of the named one.

    Raises:
        UsageError: an unknown name, values that are not one or three finite numbers, a deviation or a scale that is not above 0.
    """
    name, mean, std, scale, bgr = options.preprocess, options.mean, options.std, options.scale, options.bgr
    changed = mean is not None or std is not None or scale is not None or bgr
    if name == "auto" and not changed:
        return None
    base = next((c for c in CANDIDATES if c.name == ("unit" if name == "auto" else name)), None)
    if base is None:
        raise UsageError(f"--preprocess {name}: unknown; expected auto, {', '.join(NAMES)}")
    for option, values in (("--mean", mean), ("--std", std)):
        if values is not None and len(values) not in (1, 3):
            raise UsageError(f"{option}: {counted(len(values), 'value')}; expected one, or three in RGB order")
        if values is not None and not all(map(isfinite, values)):
            raise UsageError(f"{option}: expected finite values")
    if std is not None and min(std) <= 0:
        raise UsageError("--std: expected values above 0")
    if scale is not None and not 0 < scale < inf:
        raise UsageError(f"--scale {scale:g}: expected a value above 0")
    if not changed:
        return base
    return Preprocess("custom", base.scale if scale is None else scale, mean or base.mean, std or base.std, bgr or base.bgr)


@dataclass(frozen=True)
class _Seen:
    """What the model answers under one candidate: logits [n, C] of the first n images, in the order in which they are tried."""

    name: str
    logits: Tensor
    labels: Tensor | None

    @property
    def predictions(self) -> Tensor:
        return self.logits.argmax(1)

    @cached_property
    def information(self) -> float:
        return support(self.name, self.logits, None).information

    @property
    def accuracy(self) -> float | None:
        return None if self.labels is None else order.share(self.predictions, self.labels)

    @cached_property
    def losses(self) -> Tensor:
        """[n], each image's surprise; see `losses`."""
        assert self.labels is not None
        return losses(self.logits, self.labels)

    def same(self, other: "_Seen") -> float:
        """The share of images that both answer alike, of those that both were tried on."""
        count = min(len(self.logits), len(other.logits))
        return order.share(self.predictions[:count], other.predictions[:count])


def choose(model: TracedModel, images: np.ndarray, labels: Tensor | None, limit: int = 200, progress: Progress = silent) -> Choice:
    """Tries every candidate on a few images, those that keep up on up to `limit`, on all where that leaves it open; takes the best.

    Raises:
        UndecidedError: several candidates are supported equally well and lead to different predictions.
    """
    untold = UNTOLD if labels is None else frozenset()
    candidates = {c.name: c for c in CANDIDATES if not (c.bgr and images.shape[-1] == 1) and c.name not in untold}
    if images.shape[-1] == 1:  # which have one mean and one deviation, whatever the order of the channels
        candidates.pop("caffe-rgb", None)
    for seen in _rounds(model, candidates, images, labels, limit, progress):
        tried = sorted(seen, key=_rank)
        best, *others = [s for s in tried if len(s.logits) == len(seen[0].logits)]
        close = [s for s in others if not _clear(best, s, candidates)]
        rivals = [s for s in close if best.same(s) < SAME]
        count = len(best.logits)
        if rivals and count < len(images):
            continue
        table = tuple(support(s.name, s.logits, s.labels) for s in (best, *others, *(s for s in tried if len(s.logits) < count)))
        on = f"of {counted(len(table), 'candidate')} on up to {counted(count, 'image')}"
        reordered = {} if labels is None else _reordered([best, *others], model.classes)
        if reordered:
            name = max(reordered, key=lambda n: reordered[n])
            table = tuple(sorted(table, key=lambda s: s.name != name))
            return Choice(candidates[name], f"best accuracy {on}, with the labels in another order ({reordered[name]:.3f})", table)
        if not rivals:
            # of those that nothing tells apart the most usual one: noise and gradients see the pixels in its scale
            usual = min((best, *close), key=lambda s: list(candidates).index(s.name)).name
            table = tuple(sorted(table, key=lambda s: s.name != usual))
            what, unit = ("most information", "") if labels is None else ("likeliest labels", "accuracy ")
            return Choice(candidates[usual], f"{what} {on} ({unit}{_score(table[0]):.3f})", table)
    how = "with --preprocess" if labels is not None else "with --preprocess, or give labels (a folder for each class, or --labels)"
    raise UndecidedError(
        f"the images support the preprocessings {best.name} and {rivals[0].name} equally well, but the model predicts differently under "
        f"them ({best.same(rivals[0]):.0%} the same); say which is right {how}",
        table,
    )


def _rounds(
    model: TracedModel, candidates: dict[str, Preprocess], images: np.ndarray, labels: Tensor | None, limit: int, progress: Progress
) -> Iterator[list[_Seen]]:
    """What the model answers under every candidate, on `limit` of the images and then on all; who falls behind stops earlier.

    Those that keep up come first.
    """
    picked = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(int)
    rest = np.setdiff1d(np.arange(len(images)), picked)
    # any first part of them is spread over the classes, in whose order images lie
    mixed = np.random.default_rng(0).permutation(picked)
    order_of = np.concatenate((mixed, rest))
    shown = None if labels is None else labels[torch.from_numpy(order_of)]
    ends = sorted({min(n, len(picked)) for n in FIRST} | {len(picked), len(images)})
    seen = [_Seen(name, torch.empty(0, model.classes), None) for name in candidates]
    out: list[_Seen] = []
    begin = 0
    count = Counter(progress, TRYING, tries(len(seen), len(images), limit))
    for end in ends:
        part = images[order_of[begin:end]]
        own = None if shown is None else shown[:end]
        seen = [_Seen(s.name, torch.cat((s.logits, answers(model, candidates[s.name], part, count))), own) for s in seen]
        if end >= len(picked):
            yield [*seen, *out]
        else:
            best = min(seen, key=_rank)
            # labels that hardly any candidate agrees with may be in another order
            sure = best.accuracy is None or best.accuracy >= ORDERED
            behind = [s for s in seen if sure and s is not best and _behind(best, s)]
            out += behind
            seen = [s for s in seen if s not in behind]
        begin = end
        count.expect(count.done + len(seen) * (len(picked) - end))


def _rank(seen: _Seen) -> tuple[float, float]:
    """The smaller, the better supported."""
    return (-seen.information, 0.0) if seen.labels is None else (float(seen.losses.mean()), -seen.information)


def _clear(best: _Seen, other: _Seen, candidates: dict[str, Preprocess]) -> bool:
    """Whether one candidate is clearly better supported than another, tried on the same images."""
    if best.labels is not None:
        return _errors(best, other) >= RIVAL
    share, count = best.information, len(best.logits)
    if candidates[other.name].contrast < candidates[best.name].contrast:
        return other.information < INFORMED * share
    error = np.sqrt(max(share * (1 - share), 1 / count) / count)
    return bool(share - other.information >= RIVAL * error)


def _behind(best: _Seen, other: _Seen) -> bool:
    """Whether more images would hardly change that one is better supported."""
    return other.information < POOR * best.information if best.labels is None else _errors(best, other) >= BEHIND


def _errors(best: _Seen, other: _Seen) -> float:
    """By how much the labels are likelier under one than under another, image by image, in standard errors."""
    gap = other.losses - best.losses
    return float(gap.mean() / (gap.std(correction=0) / len(gap) ** 0.5).clamp(min=FINEST))


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Each image's cross-entropy [N], of logits [N, C] divided by the one temperature that suits all of them best (Guo et al., 2017).

    So a wrong scale is not taken for a right one because it makes the model less sure, or surer.
    """
    logits = finite(logits)
    logits = logits / logits.std(correction=0).clamp(min=1 / LARGEST)

    def mean(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / np.exp(log_temperature), labels))

    best = minimize_scalar(mean, bounds=(COOLEST, HOTTEST), method="bounded").x
    return F.cross_entropy(logits / np.exp(best), labels, reduction="none")


@torch.no_grad()
def answers(model: TracedModel, preprocess: Preprocess, images: np.ndarray, progress: Callable[[int], None] = lambda done: None) -> Tensor:
    """Logits [N, classes], on the CPU, of uint8 images [N, H, W, C], as many at once as leave the memory to others."""
    step = memory.answered_at_once(model.module.graph.nodes, model.device)
    parts = (images[i : i + step] for i in range(0, len(images), step))
    found = []
    for part in parts:
        found.append(model.logits(preprocess(part, model.input.layout)).cpu())
        progress(len(part))
    return torch.cat(found)


def tries(candidates: int, images: int, limit: int = 200) -> int:
    """Answers that the trying takes where a third of the candidates keeps up, and a third of these again."""
    ends = sorted({min(n, limit, images) for n in (*FIRST, limit)})
    return sum(max(1, round(candidates / 3**i)) * (end - begin) for i, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)))


def _reordered(seen: list[_Seen], classes: int) -> dict[str, float]:
    """Accuracy of the candidates under which the labels are right but for their order, where they are under none as they are."""
    if any((s.accuracy or 0.0) >= ORDERED for s in seen):
        return {}
    found = {s.name: order.other(s.predictions, s.labels, classes, ORDERED) for s in seen if s.labels is not None}
    return {name: o.accuracy for name, o in found.items() if o is not None}


def finite(logits: Tensor) -> Tensor:
    """Logits [N, C] in float64; a wrong scale may have driven some of them out of all bounds."""
    return logits.double().nan_to_num(posinf=LARGEST, neginf=-LARGEST).clamp(-LARGEST, LARGEST)


def support(name: str, logits: Tensor, labels: Tensor | None) -> Support:
    """Measures one candidate's support from logits [N, classes]."""
    p = finite(logits).softmax(1)
    entropy = -torch.xlogy(p, p).sum(1)
    mean = p.mean(0)
    information = (-torch.xlogy(mean, mean).sum() - entropy.mean()) / np.log(p.shape[1])
    confidence = p.max(1).values
    accuracy = None if labels is None else order.share(logits.argmax(1), labels)
    return Support(name, accuracy, float(confidence.mean()), float(information), len(p))


def _score(s: Support) -> float:
    return s.information if s.accuracy is None else s.accuracy
