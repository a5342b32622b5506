"""From uint8 pixels to what the model was trained on: named conventions, and the one that the images themselves support."""

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import torch
from torch import Tensor

from banscan.errors import EvidenceError, UsageError
from banscan.importers import TracedModel
from banscan.scanner.inputs import order
from banscan.scanner.machine import memory
from banscan.scanner.settings import Options
from banscan.text import counted

# a candidate counts as a rival when it is this close to the best, in standard errors, and as harmless when it predicts the same
RIVAL = 2.0
SAME = 0.9
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
    Preprocess("caffe", scale=1.0, mean=(123.68, 116.779, 103.939), bgr=True),
)
NAMES = tuple(c.name for c in CANDIDATES)


@dataclass(frozen=True)
class Support:
    """How well the images support a candidate: accuracy where there are labels, mean confidence, and information.

    Information is the mutual information of image and prediction over its largest value, log(classes): high when predictions are sure
    and differ between images. Confidence alone would reward a wrong scale, which drives every image into one sure class.
    """

    name: str
    accuracy: float | None
    confidence: float
    information: float
    error: float


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


def choose(model: TracedModel, images: np.ndarray, labels: Tensor | None, limit: int = 200) -> Choice:
    """Tries every candidate on up to `limit` images, on all of them where that leaves it open, and takes the best supported.

    Raises:
        UndecidedError: several candidates are supported equally well and lead to different predictions.
    """
    every = images, labels
    picked = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(int)
    images, labels = images[picked], None if labels is None else labels[torch.from_numpy(picked)]
    candidates = {c.name: c for c in CANDIDATES if not (c.bgr and images.shape[-1] == 1)}
    logits = {name: answers(model, c, images) for name, c in candidates.items()}
    table = tuple(sorted((support(name, y, labels) for name, y in logits.items()), key=lambda s: (-_score(s), -s.information)))
    predictions = {name: y.argmax(1) for name, y in logits.items()}
    best = table[0]
    on = f"of {counted(len(table), 'candidate')} on {counted(len(images), 'image')}"
    reordered = {} if labels is None else _reordered(predictions, labels, model.classes)
    if reordered:
        name = max(reordered, key=lambda n: reordered[n])
        table = tuple(sorted(table, key=lambda s: s.name != name))
        return Choice(candidates[name], f"best accuracy {on}, with the labels in another order ({reordered[name]:.3f})", table)
    for other in table[1:]:
        same = float((predictions[other.name] == predictions[best.name]).float().mean())
        if _score(best) - _score(other) < RIVAL * best.error and same < SAME:
            if len(every[0]) > limit:
                return choose(model, *every, limit=len(every[0]))
            raise UndecidedError(
                f"the images support the preprocessings {best.name} and {other.name} equally well, but the model predicts differently "
                f"under them ({same:.0%} the same); say which is right with --preprocess",
                table,
            )
    what = "accuracy" if best.accuracy is not None else "information"
    return Choice(candidates[best.name], f"best {what} {on} ({_score(best):.3f})", table)


@torch.no_grad()
def answers(model: TracedModel, preprocess: Preprocess, images: np.ndarray) -> Tensor:
    """Logits [N, classes], on the CPU, of uint8 images [N, H, W, C], as many at once as leave the memory to others."""
    step = memory.answered_at_once(model.module.graph.nodes, model.device)
    parts = (images[i : i + step] for i in range(0, len(images), step))
    return torch.cat([model.logits(preprocess(part, model.input.layout)).cpu() for part in parts])


def _reordered(predictions: dict[str, Tensor], labels: Tensor, classes: int) -> dict[str, float]:
    """Accuracy of the candidates under which the labels are right but for their order, where they are under none as they are."""
    if any(order.share(p, labels) >= ORDERED for p in predictions.values()):
        return {}
    found = {name: order.other(p, labels, classes, ORDERED) for name, p in predictions.items()}
    return {name: o.accuracy for name, o in found.items() if o is not None}


def support(name: str, logits: Tensor, labels: Tensor | None) -> Support:
    """Measures one candidate's support from logits [N, classes]."""
    p = logits.double().nan_to_num().softmax(1)
    entropy = -torch.xlogy(p, p).sum(1)
    mean = p.mean(0)
    information = (-torch.xlogy(mean, mean).sum() - entropy.mean()) / np.log(p.shape[1])
    confidence = p.max(1).values
    accuracy = None if labels is None else float((logits.argmax(1) == labels).double().mean())
    share = float(information) if accuracy is None else accuracy
    error = float(np.sqrt(max(share * (1 - share), 1 / len(p)) / len(p)))
    return Support(name, accuracy, float(confidence.mean()), float(information), error)


def _score(s: Support) -> float:
    return s.information if s.accuracy is None else s.accuracy
